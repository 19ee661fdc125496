"""How an answer is scored: one file per metric, one row here. A metric is `score(expected, answer) -> float in [0, 1]`.

`loss` (nats per token of the expected answer) needs no row: `evaluate` computes it for every suite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeft.registry import Row, lookup

Score = Callable[[str, str], float]
LOSS = "loss"


@dataclass(frozen=True)
class Metric(Row):
    """A row of the table; what is better decides what a gate calls a drop and the report a regression."""

    higher_is_better: bool = True


METRICS: dict[str, Metric] = {
    "exact_match": Metric("edgeft.evals.metrics.exact_match:score", "the answer is the expected one to the character"),
    "normalised_match": Metric(
        "edgeft.evals.metrics.normalised_match:score", "equal but for case, punctuation and runs of spaces"
    ),
    "json_match": Metric("edgeft.evals.metrics.json_match:score", "share of a JSON object's fields that are right"),
}


def load(name: str) -> Score:
    """The function of a metric; an `InputError` with the nearest name when there is none."""
    score: Score = lookup(METRICS, name, "metric").load()
    return score


def higher_is_better(name: str) -> bool:
    return name != LOSS and (name not in METRICS or METRICS[name].higher_is_better)
