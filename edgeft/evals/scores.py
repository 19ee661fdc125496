"""Rows of an evaluation put together: figures per suite and per family, and rows of two evaluations paired by id.

A row is what `rows.jsonl` holds: suite, id, group, prompt, expected, answer, stopped, scores, loss, tokens. A suite is
addressed by its name, one family of it by "suite/family". Used by `evaluate`, `gates` and the report's stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeft.errors import DataError
from edgeft.evals import statistics
from edgeft.evals.metrics import LOSS
from edgeft.evals.statistics import Estimate

Row = Mapping[str, Any]
Summary = dict[str, dict[str, dict[str, Any]]]
DIGITS = 6


def of_suite(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows of a suite ("general") or of one family of it ("general/arithmetic"), in their order."""
    suite, _, group = name.partition("/")
    return [row for row in rows if row["suite"] == suite and (not group or row["group"] == group)]


def suite_names(rows: Iterable[Row]) -> list[str]:
    """Suites in the order of the rows, each followed by its families where it has any."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        groups.setdefault(row["suite"], {})
        if row["group"]:
            groups[row["suite"]].setdefault(row["group"])
    return [name for suite, found in groups.items() for name in (suite, *(f"{suite}/{group}" for group in found))]


def summarise(rows: Sequence[Row]) -> Summary:
    """{suite or suite/family: {metric: {"value", "n", "low", "high"}}}; loss in nats per token of expected answers."""
    summary: Summary = {}
    for name in suite_names(rows):
        chosen = of_suite(rows, name)
        summary[name] = {metric: as_json(_metric(chosen, metric)) for metric in metrics_of(chosen)}
    return summary


def metrics_of(rows: Sequence[Row]) -> list[str]:
    return [*rows[0]["scores"], LOSS]


def _metric(rows: Sequence[Row], metric: str) -> Estimate:
    if metric == LOSS:
        return statistics.ratio(*losses(rows))
    return statistics.mean([row["scores"][metric] for row in rows])


def losses(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """(nats, tokens) per row."""
    return [row["loss"] for row in rows], [float(row["tokens"]) for row in rows]


def pair(before: Sequence[Row], after: Sequence[Row], what: str) -> list[tuple[Row, Row]]:
    """The rows of two evaluations of the same suite, side by side, in the order of the first.

    A `DataError` when they are not the very same rows (ids and expected answers): comparing others says nothing.
    """
    second = {row["id"]: row for row in after}
    if [row["id"] for row in before] != [row["id"] for row in after] and set(second) != {row["id"] for row in before}:
        odd = sorted({row["id"] for row in before} ^ set(second))
        raise DataError(f"{what}: the two evaluations are not of the same rows ({len(odd)} differ, such as {odd[0]!r})")
    pairs = [(row, second[row["id"]]) for row in before]
    for first, other in pairs:
        if first["expected"] != other["expected"]:
            raise DataError(f"{what}: the row {first['id']!r} expects another answer in each evaluation")
    return pairs


def as_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": round(estimate.value, DIGITS),
        "n": estimate.n,
        "low": None if estimate.low is None else round(estimate.low, DIGITS),
        "high": None if estimate.high is None else round(estimate.high, DIGITS),
    }
