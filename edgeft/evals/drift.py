"""How far tuning moved a model from its base where nobody asked it to: on neutral texts, packaged with edgeft, that
have nothing to do with the user's data. Called by the `probe` stage.

The texts are conversations of many kinds (see `text/`), rendered with the base's template. At every position of them
the two models' next-token distributions are compared: KL(base || tuned), as `divergence` defines it. Loss on the same
texts says whether the tuned model became worse at them; KL also sees it become merely different.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.evals import recorded
from edgeft.evals.divergence import Divergence, compare
from edgeft.evals.encoded import Encoded, encode
from edgeft.evals.estimate import Estimate, scaled
from edgeft.evals.suites import Case, builtin
from edgeft.progress import Listener, silent
from edgeft.runtimes.protocol import Runtime

ROWS = "builtin:text"
RECORDED_BYTES = 1 << 30  # of the base's logits, kept in a scratch file until the tuned model has read the same rows
Said = tuple[recorded.Recorded, list[tuple[str, Encoded]]] | None  # None: the base can read none of the texts
FIGURES = ("mean_kl", "p999_kl", "top1_agreement", "perplexity_ratio")


def texts() -> list[Case]:
    """The packaged neutral texts."""
    return list(builtin("text", ROWS, metrics=()).cases)


def read(base: Runtime, path: Path, *, nbytes: int = RECORDED_BYTES, listen: Listener = silent) -> Said:
    """What the base says of the texts, kept in the file `path`, so that only one model is in memory at a time.

    As many texts are read as `nbytes` of logits hold, spread over all kinds: a number that the vocabulary decides, so
    that it is the same on every machine. Texts longer than the context, or that the template refuses, are left out.
    """
    rows = []
    for case in texts():
        with contextlib.suppress(EdgeftError):
            rows.append((case.id, encode(base, case)))
    if not rows:
        return None
    rows = recorded.fitting(rows, base.vocab_size, nbytes)
    return recorded.record(base, rows, path, listen), rows


def measure(said: Said, tuned: Runtime, *, listen: Listener = silent) -> dict[str, Any]:
    """drift.json: figures over all texts, and the mean KL of each kind of text."""
    if said is None:
        return Divergence().as_json() | {"kinds": {}}
    base, rows = said
    columns = min(base.vocab_size, tuned.vocab_size)
    rows = [row for row in rows if len(row[1].ids) <= tuned.context_length and max(row[1].ids) < columns]
    found = compare(base, tuned, rows, listen) if rows else Divergence()
    kinds: dict[str, tuple[float, int]] = {}
    for name, row in zip(found.ids, found.rows, strict=True):
        kind = name.partition(":")[0]
        nats, count = kinds.get(kind, (0.0, 0))
        kinds[kind] = (nats + float(row.kl.sum()), count + len(row.kl))
    table = {
        kind: {"mean_kl": round(nats / count, 9), "positions": count} for kind, (nats, count) in sorted(kinds.items())
    }
    return found.as_json() | {"kinds": table}


def figures(drift: dict[str, Any]) -> dict[str, Estimate]:
    """ "drift.mean_kl" and its kin, with their intervals over the texts; {} when no text could be read."""
    part = drift["all"]
    if not part or drift["not_finite"]:
        return {}
    found = {}
    for name in FIGURES:
        low, high = part["intervals"][name] or (None, None)
        found[f"drift.{name}"] = scaled(part[name], part["positions"], low, high)
    return found
