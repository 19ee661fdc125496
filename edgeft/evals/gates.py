"""Judge gate lines on two evaluations of the same rows. Called by the `gate` stage (tuned against base), the `verify`
stage (a file against the tuned model) and `edgeft eval --against`.

A gate compares one figure with a limit: a level, or a drop or rise that is paired row by row (see `measured`). The
figure's 95 % interval decides: wholly within the limit passes, wholly beyond it fails, anything else is undecided, and
the recipe says what undecided means. Each way bounds one error at 2.5 %: `pass` (the default) how often a model within
the limit is stopped, `fail` how often one beyond it ships; `estimate` bounds neither, at the limit it is a coin's toss.
A figure without any interval (of one row) goes by the estimate where undecided would pass: that gate could never fail.

Several gates at once: a model passes only when every gate does, so passing needs no correction (the intersection of
tests holds the level of each). It fails when any gate does, so failing is corrected by Holm's method: a gate fails when
its p value against the limit, adjusted for all gates that were judged, is at most 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgeft.evals import scores, statistics
from edgeft.evals.estimate import CONFIDENCE, Estimate, doubt
from edgeft.evals.measured import Gate, Measured, measure

Status = Literal["passed", "failed", "undecided"]
Undecided = Literal["estimate", "pass", "fail"]
UNDECIDED: Undecided = "pass"  # unless the recipe says otherwise
TAIL = (1 - CONFIDENCE) / 2
_DIGITS = 9  # 0.95 - 0.92 is 0.03, whatever binary floating point says


@dataclass(frozen=True)
class Check:
    """One judged gate. `figure` is what was compared with the limit (`low` and `high` are its interval), `value` and
    `base` are the levels it was made of.

    p_value   that figure and baseline do not differ at all (two-sided): McNemar's exact one for paired 0/1 scores, by
              permutation for other paired figures
    p_limit   that the true figure is on the other side of the limit than the estimate (one-sided); of gates that would
              fail alone, adjusted by Holm for all gates of the verdict
    rows_needed  of an undecided gate: how many rows would tell in four of five evaluations, were the rest alike
    timed     it judges times: its figures are no part of what is reproducible
    """

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
    p_limit: float | None = None
    rows_needed: int | None = None
    timed: bool = False

    def as_json(self) -> dict[str, Any]:
        found = {name: _rounded(value) for name, value in vars(self).items()}
        if not self.timed:
            del found["timed"]
        return found


def settle(measured: Sequence[Measured], *, undecided: Undecided = UNDECIDED) -> list[Check]:
    """All gates of one verdict, judged together (see the top of this file)."""
    alone = [_alone(item) for item in measured]
    p_limits = [
        doubt(item.figure, item.gate.limit) if status == "failed" and item.figure.at else None
        for item, status in zip(measured, alone, strict=True)
    ]
    judged = sum(item.figure.at is not None for item in measured)
    adjusted = _holm([p for p in p_limits if p is not None], judged)
    checks = []
    for item, status, p_limit in zip(measured, alone, p_limits, strict=True):
        corrected = None if p_limit is None else adjusted.pop(0)
        together = "undecided" if corrected is not None and corrected > TAIL * (1 + 1e-9) and judged > 1 else status
        checks.append(_checked(item, together, corrected, undecided, judged if together != status else None))
    return checks


def _holm(failing: Sequence[float], judged: int) -> list[float]:
    """Holm's adjustment of the p values of gates that would fail alone, among all that were `judged`: the others have
    larger ones, so they change nothing here."""
    return statistics.holm([*failing, *[1.0] * (judged - len(failing))])[: len(failing)]


def judge(
    gate: Gate,
    rows: Sequence[scores.Row],
    base_rows: Sequence[scores.Row] | None,
    *,
    undecided: Undecided = UNDECIDED,
) -> Check:
    """One gate on a suite, alone."""
    return settle([measure(gate, rows, base_rows)], undecided=undecided)[0]


def required(name: str, passed: bool, detail: str, *, value: float | None = None, n: int = 0) -> Check:
    """A check that no recipe has to ask for, such as equal token ids."""
    return Check(name, _word(passed), passed, value, value, None, None, None, None, n, detail)


def without_times(check: Check) -> Check:
    """A check of times as it may stand in a reproducible file: what was asked and how it went, not what was found."""
    if not check.timed:
        return check
    detail = f"{check.status}; the measured times are in timing.json"
    return replace(
        check, figure=None, value=None, low=None, high=None, n=0, p_limit=None, rows_needed=None, detail=detail
    )


def _word(passed: bool) -> Status:
    return "passed" if passed else "failed"


def status_of(gate: Gate, figure: Estimate) -> Status:
    """Where the interval lies: all of it within the limit, none of it, or both sides; a missing bound is anywhere."""
    low = -math.inf if figure.low is None else figure.low
    high = math.inf if figure.high is None else figure.high
    worst, best = (high, low) if gate.op in ("<=", "<") else (low, high)
    if gate.holds(round(worst, _DIGITS)):
        return "passed"
    return "undecided" if gate.holds(round(best, _DIGITS)) else "failed"


def _alone(item: Measured) -> Status:
    """By the interval; figures that have none by nature (counts of all there is, or infinite) by their value."""
    figure = item.figure
    if math.isinf(figure.value) or (figure.at is None and figure.low == figure.high == figure.value):
        return _word(item.gate.holds(round(figure.value, _DIGITS)))
    return status_of(item.gate, figure)


def _checked(
    item: Measured, status: Status, p_limit: float | None, undecided: Undecided, together: int | None
) -> Check:
    gate, figure = item.gate, item.figure
    if undecided == "pass" and figure.low is None and figure.high is None:
        undecided = "estimate"
    by_policy = {"estimate": gate.holds(round(figure.value, _DIGITS)), "pass": True, "fail": False}[undecided]
    passed = by_policy if status == "undecided" else status == "passed"
    needed = item.needed if status == "undecided" else None
    detail = _detail(item, status, needed, together, undecided, passed)
    return Check(
        gate=gate.text,
        status=status,
        passed=passed,
        figure=figure.value if math.isfinite(figure.value) else None,
        value=item.value,
        base=item.base,
        limit=gate.limit,
        low=figure.low,
        high=figure.high,
        n=figure.n,
        detail=detail,
        p_value=item.p_value,
        p_limit=p_limit,
        rows_needed=needed,
        timed=gate.timed,
    )


def _detail(
    item: Measured, status: Status, needed: int | None, together: int | None, undecided: Undecided, passed: bool
) -> str:
    """One sentence that a person can act on."""
    gate, figure = item.gate, item.figure
    name = f"{gate.suite}.{gate.metric}" if gate.suite else gate.metric
    shown = _percent if gate.relative else _seconds if gate.timed and "latency" in gate.metric else _number
    if item.base is None:
        text = f"{name} is {shown(item.value)}"
    else:
        text = f"{name} went from {_number(item.base)} to {_number(item.value)}, a {gate.kind} of {shown(figure.value)}"
    rows = f"{figure.n} rows" if gate.suite else f"n {figure.n}"
    if figure.low is not None and figure.high is not None and figure.at is not None:
        text += f" (95 % interval {shown(figure.low)} to {shown(figure.high)}, {rows})"
    elif figure.low is not None and figure.high is None:
        text += f" (95 % interval from {shown(figure.low)} on, {rows})"
    else:
        text += f" ({rows})"
    text += f"; asked for {gate.op} {shown(gate.limit)}"
    if status != "undecided":
        return text
    text += f"; alone it would fail, as one of {together} gates it may be chance" if together else ""
    text += "; too few rows to tell" if not together else ""
    text += _advice(item, needed)
    verdict = "passes" if passed else "fails"
    by = "by the estimate" if undecided == "estimate" else f"(undecided: {undecided})"
    return f"{text}, so it {verdict} {by}"


def _advice(item: Measured, needed: int | None) -> str:
    if needed is None:
        return " (the estimate is at the limit: no number of rows would)" if item.figure.at else ""
    return f" (about {needed} would, were the rest alike)" if needed > item.figure.n else ""


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _seconds(value: float) -> str:
    return f"{1000 * value:.4g} ms" if value < 1 else f"{value:.4g} s"


def _rounded(value: Any) -> Any:
    return round(value, scores.DIGITS) if isinstance(value, float) else value
