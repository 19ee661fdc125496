#!/usr/bin/env python3
"""Make the embedded base model `builtin:sprout` from nothing: corpus, tokenizer, pre-training, evaluation, card.

The same machine and library versions give the same bytes; the last line says whether they are the shipped ones.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SHIPPED = ROOT / "edgeft" / "models" / "builtin" / "sprout"
SUITES = ROOT / "edgeft" / "evals" / "general"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "sprout", help="folder for the model")
    parser.add_argument("--suites", type=Path, help="also write the held-out rows (JSONL, one file a family) here")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: OUT.work)")
    parser.add_argument("--steps", type=int, help="training steps; the shipped model has the default")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the work folder")
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model: does the path work?")
    return parser.parse_args()


def main() -> int:
    """Make the model as the options say."""
    options = _options()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from tools.base import pipeline

    torch.set_num_threads(1)  # the sums are added up in another order with another number of threads
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    made = pipeline.make(
        options.out,
        options.work or options.out.with_suffix(".work"),
        pipeline.settings(quick=options.quick, steps=options.steps),
        resume=options.resume,
        suites=options.suites,
    )
    print(f"{made.tokens:,} tokens in {(time.monotonic() - started) / 60:.1f} minutes")
    print(f"sha256 {made.digest}")
    shipped = SHIPPED / "model.safetensors"
    if shipped.is_file():
        same = pipeline.sha256(shipped) == made.digest
        print(f"{'equal to' if same else 'different from'} the shipped {shipped.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
