"""A figure with its interval, and how sure it is of a limit. Used by everything that judges figures.

An estimate can give its interval at any confidence, so that a test against any limit is the inversion of the interval
that people see: `doubt` says how far the confidence can be raised before the interval reaches the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

Bound = float | None
Interval = Callable[[float], tuple[Bound, Bound]]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and the number of rows it rests on; one row has no interval."""

    value: float
    n: int
    low: float | None
    high: float | None
    at: Interval | None = field(default=None, compare=False, repr=False)  # confidence -> (low, high)
    finest: float = field(default=1e-9, compare=False, repr=False)  # the smallest tail that `at` can tell

    def mapped(self, change: Callable[[float], float]) -> Estimate:
        """Under an increasing or decreasing change of units, such as a sign or a scale."""
        low, high = _ordered(change, self.low, self.high)
        at = self.at
        inner = None if at is None else (lambda confidence: _ordered(change, *at(confidence)))
        return replace(self, value=change(self.value), low=low, high=high, at=inner)


def _ordered(change: Callable[[float], float], low: float | None, high: float | None) -> tuple[Bound, Bound]:
    first, second = (None if bound is None else change(bound) for bound in (low, high))
    falling = change(1.0) < change(0.0)
    return (second, first) if falling else (first, second)


def estimate(value: float, n: int, at: Interval, confidence: float, finest: float = 1e-9) -> Estimate:
    """An estimate with the interval that `at` gives."""
    return Estimate(value, n, *at(confidence), at=at, finest=finest)


def doubt(found: Estimate, limit: float) -> float:
    """One-sided p value that the true figure is not on the side of `limit` that the estimate is on: the smallest tail
    whose interval still leaves the limit out; 0.5 at the limit, 1 without an interval."""
    if found.at is None:
        return 1.0
    if found.value == limit:
        return 0.5

    def excludes(tail: float) -> bool:
        low, high = found.at(1 - 2 * tail)  # type: ignore[misc]
        return (low is not None and low > limit) if limit < found.value else (high is not None and high < limit)

    if excludes(found.finest):
        return found.finest
    sure, unsure = 0.499, found.finest
    if not excludes(sure):
        return 0.5
    while sure / unsure > 1.0005:
        middle = math.sqrt(sure * unsure)
        sure, unsure = (middle, unsure) if excludes(middle) else (sure, middle)
    return sure


def scaled(value: float, n: int, low: float | None, high: float | None) -> Estimate:
    """An estimate read from a file, with the interval that stood there. At other confidences its two arms grow as those
    of a normal distribution do. An interval without width is that of a count of all there is: it stays."""
    if low is None or high is None or low == high:
        return Estimate(value, n, low, high)

    def at(level: float) -> tuple[Bound, Bound]:
        from scipy.stats import norm

        arm = float(norm.ppf(0.5 + level / 2)) / float(norm.ppf(0.5 + CONFIDENCE / 2))
        return value - arm * (value - low), value + arm * (high - value)

    return Estimate(value, n, low, high, at=at)
