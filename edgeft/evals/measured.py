"""The figure of a gate, measured on rows or taken from what was measured before; `gates` judges it. Called by the
stages that judge and by `edgeft eval --against`.

Gates themselves are parsed by `edgeft.recipe`; here only their fields are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeft.errors import InputError
from edgeft.evals import power, scores, statistics
from edgeft.evals.estimate import Estimate
from edgeft.evals.metrics import LOSS
from edgeft.registry import suggestion


class Gate(Protocol):
    """What is read of a parsed gate line (see `edgeft.recipe.gates.Gate`)."""

    @property
    def text(self) -> str: ...
    @property
    def suite(self) -> str | None: ...
    @property
    def metric(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def limit(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def relative(self) -> bool: ...
    @property
    def timed(self) -> bool: ...
    def holds(self, figure: float) -> bool: ...


@dataclass(frozen=True)
class Measured:
    """A gate's figure before it is judged. `needed` tells the rows that would decide it."""

    gate: Gate
    figure: Estimate
    value: float
    base: float | None = None
    p_value: float | None = None
    needed: int | None = None


def measure(gate: Gate, rows: Sequence[scores.Row], base_rows: Sequence[scores.Row] | None) -> Measured:
    """The figure of a gate on a suite. `base_rows` are only read by a drop or a rise; a `DataError` when rows do not
    pair, an `InputError` when the suite has no such family."""
    assert gate.suite is not None
    chosen = scores.of_suite(rows, gate.suite)
    if not chosen:
        known = scores.suite_names(rows)
        raise InputError(f"{gate.text!r}: nothing was evaluated on {gate.suite!r}", do=suggestion(gate.suite, known))
    known = scores.metrics_of(chosen)
    if gate.metric not in known:
        raise InputError(f"{gate.text!r}: {gate.suite!r} has no {gate.metric}", do=suggestion(gate.metric, known))
    if gate.kind == "level":
        level = scores.level(chosen, gate.metric)
        return Measured(gate, level, level.value, needed=_needed(gate, level, chosen, None, level.value))
    if base_rows is None:
        raise ValueError(f"{gate.text!r} needs a baseline")
    pairs = scores.pair(scores.of_suite(base_rows, gate.suite), chosen, gate.text)
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    base, value = (scores.value_of(side, gate.metric) for side in (before, after))
    change = change_of(before, after, gate.metric, gate.relative, base)
    figure = change.mapped(_minus) if gate.kind == "drop" else change
    needed = _needed(gate, figure, after, before, base)
    return Measured(gate, figure, value, base, p_value_of(before, after, gate.metric), needed)


def measure_figure(gate: Gate, figures: Mapping[str, Estimate]) -> Measured:
    """A figure that needs no suite, by its name: of fidelity, of the probe, or a time."""
    found = figures[gate.metric]
    return Measured(gate, found, found.value, needed=power.for_estimate(found, gate.limit))


def measure_latency(gate: Gate, seconds: Sequence[float], share: float) -> Measured:
    """A percentile of the seconds that single answers took."""
    found = statistics.percentile(seconds, share)
    return Measured(gate, found, found.value, needed=power.for_percentile(seconds, share, gate.limit))


def _minus(value: float) -> float:
    return 0.0 - value  # 0 - x, because -0.0 reads "-0"


def _scores(rows: Sequence[scores.Row], metric: str) -> list[float]:
    return [float(row["scores"][metric]) for row in rows]


def change_of(
    before: Sequence[scores.Row], after: Sequence[scores.Row], metric: str, relative: bool = False, base: float = 0.0
) -> Estimate:
    """after - before of paired rows; as a share of `base` when relative."""
    if relative and base == 0:
        value = scores.value_of(after, metric)
        return Estimate(math.copysign(math.inf, value) if value else 0.0, len(after), None, None)
    if metric == LOSS:
        return statistics.paired_ratio_difference(scores.losses(before), scores.losses(after), relative=relative)
    whole = scores.change(before, after, metric, relative=relative)
    if whole is not None:
        return whole
    first, second = _scores(before, metric), _scores(after, metric)
    if relative:
        return statistics.relative_difference(first, second)
    return statistics.paired_difference(first, second)


def p_value_of(before: Sequence[scores.Row], after: Sequence[scores.Row], metric: str) -> float | None:
    """Two-sided p value that paired rows do not differ: McNemar's exact one for 0/1 scores, else by permutation; None
    for losses of different tokens."""
    if metric == LOSS:
        (first, tokens), (second, others) = scores.losses(before), scores.losses(after)
        return statistics.permutation(first, second) if tokens == others else None  # the same tokens, or no pairs
    one, other = _scores(before, metric), _scores(after, metric)
    if statistics.is_binary(one) and statistics.is_binary(other):
        return statistics.mcnemar(one, other)
    return statistics.permutation(one, other)


def _needed(
    gate: Gate, figure: Estimate, rows: Sequence[scores.Row], before: Sequence[scores.Row] | None, base: float
) -> int | None:
    """The rows that would tell: by the test that judged the gate."""
    if gate.metric != LOSS:
        after = _scores(rows, gate.metric)
        if before is None and statistics.is_binary(after):
            return power.for_proportion(figure.value, gate.limit)
        first = _scores(before, gate.metric) if before is not None else []
        if first and statistics.is_binary(first) and statistics.is_binary(after) and base:
            won, lost = statistics.discordant(first, after)
            limit = gate.limit * (base if gate.relative else 1.0)
            return power.for_paired(won, lost, len(after), -limit if gate.kind == "drop" else limit)
    return power.for_estimate(figure, gate.limit)
