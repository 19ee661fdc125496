"""How many rows would tell: the power of a gate's test. Called by `gates` for what is undecided.

The rows that were seen say how much rows vary; the estimate is taken for the truth. Asked is the number of rows at
which the interval's bound clears the limit in 80 of 100 evaluations (power 0.8 at a one-sided level of 2.5 %): the
normal approximation of the score test, n = ((z_a sqrt(V0) + z_b sqrt(V1)) / (figure - limit))^2 with the variance of
one row at the limit (V0) and at the estimate (V1); for paired proportions that is Connor's formula (1987, Biometrics
43, 207-211) with Tango's variance at a limit that is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeft.evals.estimate import CONFIDENCE, Estimate
from edgeft.evals.statistics import tango_variance

POWER = 0.8
MOST = 10_000_000  # above it the estimate is at the limit for all that anybody will measure


def rows_needed(difference: float, at_limit: float, at_estimate: float, *, power: float = POWER) -> int | None:
    """Rows for a `difference` of figure and limit, and the variances of one row; None when there is no difference."""
    from scipy.stats import norm

    if difference == 0:
        return None
    reach = float(norm.ppf(0.5 + CONFIDENCE / 2)) * math.sqrt(at_limit) + float(norm.ppf(power)) * math.sqrt(
        at_estimate
    )
    rows = (reach / difference) ** 2
    return math.ceil(rows) if rows <= MOST else None


def for_proportion(share: float, limit: float, *, power: float = POWER) -> int | None:
    """Rows to tell a share of right answers from a limit."""
    limit = min(max(limit, 0.0), 1.0)
    return rows_needed(share - limit, limit * (1 - limit), share * (1 - share), power=power)


def for_paired(won: int, lost: int, n: int, limit: float, *, power: float = POWER) -> int | None:
    """Rows to tell a paired difference of proportions, (won - lost) / n, from a limit (as a difference, so that a drop
    of 0.03 is -0.03)."""
    difference = (won - lost) / n
    at_estimate = (won + lost) / n - difference**2
    return rows_needed(difference - limit, tango_variance(won, lost, n, limit), at_estimate, power=power)


def for_estimate(found: Estimate, limit: float, *, power: float = POWER) -> int | None:
    """Rows to tell any other figure from a limit, from the width of its interval."""
    from scipy.stats import norm

    if found.low is None or found.high is None:
        return None
    deviation = (found.high - found.low) / (2 * float(norm.ppf(0.5 + CONFIDENCE / 2)))
    return rows_needed(found.value - limit, found.n * deviation**2, found.n * deviation**2, power=power)


def for_percentile(values: Sequence[float], share: float, limit: float, *, power: float = POWER) -> int | None:
    """Values to tell a percentile from a limit: whether `share` of them are within it is a proportion's test. Never
    fewer than an interval of that percentile takes."""
    within = sum(value <= limit for value in values) / len(values)
    least = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(max(share, 1 - share)))
    needed = for_proportion(within, share, power=power)
    return None if needed is None else max(needed, least)
