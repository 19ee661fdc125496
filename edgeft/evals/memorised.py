"""What a model learnt by heart: training rows that it completes word for word, and how much better it knows them than
rows that it never saw. Called by the `probe` stage.

A row counts as memorised when the greedy completion of its prompt is its answer. Short answers are often right because
the task is learnt, so the rate on validation rows is the measure of that, and the excess over it is what was learnt by
heart. The gap of the losses says the same of rows that are nearly known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.errors import DataError
from edgeft.evals import statistics
from edgeft.evals.encoded import Encoded, encode
from edgeft.evals.estimate import Estimate
from edgeft.evals.evaluate import answer_losses, batches
from edgeft.evals.questions import Case
from edgeft.progress import Listener, Progress, silent
from edgeft.runtimes.protocol import Runtime

MAX_TOKENS = 256  # of a completion; of longer answers the beginning has to agree


@dataclass(frozen=True)
class Known:
    """How a model knows some rows: per row whether it completes it verbatim, and the nats and tokens of the answer."""

    same: list[float]
    nats: list[float]
    tokens: list[float]
    rows: list[dict[str, Any]]


def ask(
    runtime: Runtime, cases: Sequence[Case], split: str, *, batch_size: int = 64, listen: Listener = silent
) -> Known:
    """Complete every row greedily, and take the loss of its answer. Rows that do not fit the context are left out."""
    kept = [(case, item) for case in cases if (item := _encoded(runtime, case)) is not None]
    items = [item for _, item in kept]
    answers: dict[int, tuple[str, bool]] = {}
    for indices in batches([len(item.prompt) for item in items], batch_size):
        longest = max(items[i].end - items[i].start for i in indices) + 1
        room = min(longest, MAX_TOKENS, runtime.context_length - max(len(items[i].prompt) for i in indices))
        completions = runtime.generate([items[i].prompt for i in indices], max_tokens=max(1, room))
        for index, completion in zip(indices, completions, strict=True):
            answers[index] = (completion.text, completion.stopped)
        listen(Progress(len(answers), len(items), "row", f"{split} rows by heart"))
    nats = dict(answer_losses(runtime, items)) if items else {}
    rows = []
    for index, (case, item) in enumerate(kept):
        text, stopped = answers[index]
        rows.append(
            {
                "split": split,
                "id": case.id,
                "prompt": [dict(message) for message in case.messages],
                "expected": case.expected,
                "answer": text,
                "same": is_same(case.expected, text, stopped),
                "loss": round(nats[index], 6),
                "tokens": item.end - item.start,
            }
        )
    return Known(
        [float(row["same"]) for row in rows],
        [row["loss"] for row in rows],
        [float(row["tokens"]) for row in rows],
        rows,
    )


def _encoded(runtime: Runtime, case: Case) -> Encoded | None:
    try:
        return encode(runtime, case)
    except DataError:
        return None


def is_same(expected: str, answer: str, stopped: bool) -> bool:
    """Whether a completion is the answer, white space at its ends aside; one that was cut off is when it begins it."""
    wanted, given = expected.strip(), answer.strip()
    return wanted == given if stopped else bool(given) and wanted.startswith(given)


def figures(train: Known, validation: Known) -> dict[str, Estimate]:
    """`memorised.train`, `memorised.validation`, `memorised.excess` (their difference), and `overfit.gap` (nats per
    token: loss on validation rows above that on training rows); what has no rows is left out."""
    found: dict[str, Estimate] = {}
    sides = {"train": train, "validation": validation}
    for name, side in sides.items():
        if side.rows:
            found[f"memorised.{name}"] = statistics.mean(side.same)
    if train.rows and validation.rows:
        found["memorised.excess"] = statistics.unpaired_difference(
            found["memorised.validation"], found["memorised.train"]
        )
        losses = [statistics.ratio(side.nats, side.tokens) for side in (train, validation)]
        found["overfit.gap"] = statistics.unpaired_difference(*losses)
    return found
