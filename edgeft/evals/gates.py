"""Judge a gate line on two evaluations of the same rows. Called by the `gate` stage (tuned against base) and the
`verify` stage (a file against the tuned model).

A gate compares one figure with a limit: a level, or a drop or rise that is paired row by row. The figure's 95 %
interval decides: wholly within the limit passes, wholly beyond it fails, anything else is undecided, and the recipe
says what undecided means. The gates themselves are parsed by `edgeft.recipe`; here only their fields are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeft.evals import scores, statistics
from edgeft.evals.metrics import LOSS
from edgeft.evals.statistics import Estimate

Status = Literal["passed", "failed", "undecided"]
Undecided = Literal["estimate", "pass", "fail"]
_DIGITS = 9  # 0.95 - 0.92 is 0.03, whatever binary floating point says


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
    def holds(self, figure: float) -> bool: ...


@dataclass(frozen=True)
class Check:
    """One judged gate. `figure` is what was compared with the limit (`low` and `high` are its interval), `value` and
    `base` are the levels it was made of. `p_value` is McNemar's exact one, for paired 0/1 scores."""

    gate: str
    status: Status
    passed: bool
    figure: float | None
    value: float | None
    base: float | None
    limit: float | None
    low: float | None
    high: float | None
    n: int
    detail: str
    p_value: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in vars(self).items()}


def judge(
    gate: Gate,
    rows: Sequence[scores.Row],
    base_rows: Sequence[scores.Row] | None,
    *,
    undecided: Undecided = "estimate",
) -> Check:
    """Judge one gate on a suite. `base_rows` are only read by a drop or a rise; a `DataError` when rows do not pair."""
    assert gate.suite is not None
    chosen = scores.of_suite(rows, gate.suite)
    if not chosen:
        raise ValueError(f"{gate.text!r}: nothing was evaluated on {gate.suite!r}")
    value = _level(chosen, gate.metric)
    if gate.kind == "level":
        return _checked(gate, value, value.value, None, undecided)
    if base_rows is None:
        raise ValueError(f"{gate.text!r} needs a baseline")
    pairs = scores.pair(scores.of_suite(base_rows, gate.suite), chosen, gate.text)
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    base = _level(before, gate.metric)
    change = _change(before, after, gate.metric, gate.relative, base.value)
    figure = _negated(change) if gate.kind == "drop" else change
    return _checked(gate, figure, value.value, base.value, undecided, _p_value(before, after, gate.metric))


def judge_figure(gate: Gate, figures: Mapping[str, tuple[float, int]]) -> Check:
    """Judge a gate on a fidelity figure {name: (value, n)}: measured on all rows that were asked for, no interval."""
    value, n = figures[gate.metric]
    passed = gate.holds(round(value, _DIGITS))
    detail = f"{gate.metric} is {_number(value)}, asked for {gate.op} {_number(gate.limit)}"
    return Check(gate.text, _word(passed), passed, value, value, None, gate.limit, None, None, n, detail)


def required(name: str, passed: bool, detail: str, *, value: float | None = None, n: int = 0) -> Check:
    """A check that no recipe has to ask for, such as equal token ids."""
    return Check(name, _word(passed), passed, value, value, None, None, None, None, n, detail)


def _word(passed: bool) -> Status:
    return "passed" if passed else "failed"


def _level(rows: Sequence[scores.Row], metric: str) -> Estimate:
    if metric == LOSS:
        return statistics.ratio(*scores.losses(rows))
    return statistics.mean([row["scores"][metric] for row in rows])


def _change(
    before: Sequence[scores.Row], after: Sequence[scores.Row], metric: str, relative: bool, base: float
) -> Estimate:
    """after - before, paired; as a share of `base` when relative."""
    if relative and base == 0:
        value = _level(after, metric).value
        return Estimate(math.copysign(math.inf, value) if value else 0.0, len(after), None, None)
    if metric == LOSS:
        return statistics.paired_ratio_difference(scores.losses(before), scores.losses(after), relative=relative)
    first, second = ([row["scores"][metric] for row in rows] for rows in (before, after))
    if relative:
        return statistics.relative_difference(first, second)
    return statistics.paired_difference(first, second)


def _p_value(before: Sequence[scores.Row], after: Sequence[scores.Row], metric: str) -> float | None:
    if metric == LOSS:
        return None
    first, second = ([row["scores"][metric] for row in rows] for rows in (before, after))
    if statistics.is_binary(first) and statistics.is_binary(second):
        return statistics.mcnemar(first, second)
    return None


def _negated(change: Estimate) -> Estimate:
    low = None if change.high is None else 0.0 - change.high  # 0 - x, because -0.0 reads "-0"
    high = None if change.low is None else 0.0 - change.low
    return Estimate(0.0 - change.value, change.n, low, high)


def status_of(gate: Gate, figure: Estimate) -> Status:
    """Where the interval lies: all of it within the limit, none of it, or both sides."""
    if figure.low is None or figure.high is None:
        return "undecided"
    worst, best = (figure.high, figure.low) if gate.op in ("<=", "<") else (figure.low, figure.high)
    if gate.holds(round(worst, _DIGITS)):
        return "passed"
    return "undecided" if gate.holds(round(best, _DIGITS)) else "failed"


def _checked(
    gate: Gate, figure: Estimate, value: float, base: float | None, undecided: Undecided, p_value: float | None = None
) -> Check:
    holds = gate.holds(round(figure.value, _DIGITS))
    status = _word(holds) if math.isinf(figure.value) else status_of(gate, figure)
    by_policy = {"estimate": holds, "pass": True, "fail": False}[undecided]
    passed = by_policy if status == "undecided" else status == "passed"
    detail = _detail(gate, figure, value, base, status, undecided, passed)
    finite = figure.value if math.isfinite(figure.value) else None
    return Check(
        gate.text, status, passed, finite, value, base, gate.limit, figure.low, figure.high, figure.n, detail, p_value
    )


def rows_needed(figure: Estimate, limit: float) -> int | None:
    """About how many rows would take the interval off the limit if the estimate stayed as it is (its width shrinks with
    the root of n); None when the estimate is at the limit."""
    if figure.low is None or figure.high is None or math.isclose(figure.value, limit, abs_tol=1e-12):
        return None
    reach = figure.value - figure.low if limit < figure.value else figure.high - figure.value
    return math.ceil(figure.n * (reach / abs(figure.value - limit)) ** 2)


def _detail(
    gate: Gate, figure: Estimate, value: float, base: float | None, status: Status, undecided: Undecided, passed: bool
) -> str:
    """One sentence that a person can act on."""
    name = f"{gate.suite}.{gate.metric}"
    shown = _percent if gate.relative else _number
    if base is None:
        text = f"{name} is {_number(value)}"
    else:
        text = f"{name} went from {_number(base)} to {_number(value)}, a {gate.kind} of {shown(figure.value)}"
    if figure.low is not None and figure.high is not None:
        text += f" (95 % interval {shown(figure.low)} to {shown(figure.high)}, {figure.n} rows)"
    else:
        text += f" ({figure.n} rows)"
    text += f"; asked for {gate.op} {shown(gate.limit)}"
    if status != "undecided":
        return text
    needed = rows_needed(figure, gate.limit)
    text += "; too few rows to tell"
    text += f" (about {needed} would, were the rest alike)" if needed and needed > figure.n else ""
    verdict = "passes" if passed else "fails"
    by = "by the estimate" if undecided == "estimate" else "as the recipe says of undecided gates"
    return f"{text}, {verdict} {by}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _rounded(value: Any) -> Any:
    return round(value, scores.DIGITS) if isinstance(value, float) else value
