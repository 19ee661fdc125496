"""One file per family of skills; each has `exchanges(rng, split)`, which writes one conversation."""
