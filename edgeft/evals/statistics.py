"""What a figure is worth: intervals for a level, intervals and tests for a paired difference. Called by `gates`,
`power`, `scores`, `fidelity` and `drift`.

Every function takes scores in the order of the rows, is deterministic (bootstraps draw from a fixed seed) and says n.
A level of 95 % is meant everywhere; `confidence` changes it. Sources: Wilson 1927 and Clopper & Pearson 1934 as scipy
has them; Tango 1998, Statistics in Medicine 17, 891-908 (paired difference of proportions); McNemar 1947 in its exact
form, a binomial test of the discordant pairs; the interval of a percentile from order statistics (Conover 1999, section
3.2) as scipy has it; means and ratios by resampling (see `edgeft.evals.bootstrap`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from edgeft.evals import bootstrap
from edgeft.evals.estimate import CONFIDENCE, Bound, Estimate, estimate


def is_binary(scores: Sequence[float]) -> bool:
    """Whether every score is 0 or 1, so that the mean is a proportion."""
    return all(score in (0.0, 1.0) for score in scores)


def proportion(successes: int, n: int, *, method: str = "wilson", confidence: float = CONFIDENCE) -> Estimate:
    """A proportion with Wilson's interval ("wilson") or Clopper and Pearson's ("exact")."""
    from scipy.stats import binomtest

    test = binomtest(successes, n)

    def at(level: float) -> tuple[Bound, Bound]:
        interval = test.proportion_ci(confidence_level=level, method=method)
        return float(interval.low), float(interval.high)

    return estimate(successes / n, n, at, confidence)


def percentile(values: Sequence[float], share: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """The value that `share` of all do not exceed, with the distribution-free interval of order statistics; a bound is
    None where that many values cannot give one (an upper bound of the 95th percentile takes 72)."""
    import numpy as np
    from scipy.stats import quantile_test

    if not values:
        raise ValueError("no values")

    def at(level: float) -> tuple[Bound, Bound]:
        tail = 1 - (1 - level) / 2
        above = quantile_test(values, p=share, alternative="greater").confidence_interval(tail)
        below = quantile_test(values, p=share, alternative="less").confidence_interval(tail)
        low, high = float(above.low), float(below.high)
        return low if math.isfinite(low) else None, high if math.isfinite(high) else None

    return estimate(float(np.quantile(np.asarray(values, float), share)), len(values), at, confidence)


def mean(scores: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The mean of per-row scores: Wilson's interval when they are all 0 or 1, else a BCa bootstrap over rows."""
    if not scores:
        raise ValueError("no scores")
    if is_binary(scores):
        return proportion(int(sum(scores)), len(scores), confidence=confidence)
    return bootstrap.of_sums(_ratio, [scores, [1.0] * len(scores)], confidence)


def ratio(numerators: Sequence[float], denominators: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """sum(numerators) / sum(denominators), such as nats per token; rows are resampled (BCa), not tokens, because the
    tokens of one row are not independent."""
    return bootstrap.of_sums(_ratio, [numerators, denominators], confidence)


def mcnemar(before: Sequence[float], after: Sequence[float]) -> float:
    """Two-sided exact p value for paired 0/1 scores; 1.0 when no pair differs."""
    from scipy.stats import binomtest

    won, lost = discordant(before, after)
    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def discordant(before: Sequence[float], after: Sequence[float]) -> tuple[int, int]:
    """(rows only right after, rows only right before) of paired 0/1 scores."""
    pairs = list(zip(before, after, strict=True))
    return sum(1 for b, a in pairs if a > b), sum(1 for b, a in pairs if a < b)


def permutation(before: Sequence[float], after: Sequence[float]) -> float:
    """Two-sided p value that the paired scores differ in the mean (or, of nats per row, in the sum), by swapping the
    labels within rows: all ways to swap them when those are few, else `RESAMPLES` of them, the given one counted."""
    import numpy as np

    differences = np.asarray(after, float) - np.asarray(before, float)
    n, observed = len(differences), float(differences.sum())
    every = 2**n <= bootstrap.RESAMPLES
    low = high = 0 if every else 1
    tolerance = 1e-12 * float(np.abs(differences).sum())  # sums of the same values in another order
    for swapped in _swaps(n, every=every):
        null = observed - 2 * (swapped.astype(np.float64) @ differences)
        low += int((null <= observed + tolerance).sum())
        high += int((null >= observed - tolerance).sum())
    return min(1.0, 2 * min(low, high) / (2**n if every else bootstrap.RESAMPLES + 1))


def _swaps(n: int, *, every: bool) -> Iterator[Any]:
    """int8[B, n]: 1 where the labels of a row are swapped, a batch at a time."""
    import numpy as np

    if every:
        yield (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.int8)
        return
    random = np.random.default_rng(bootstrap.SEED)
    for first in range(0, bootstrap.RESAMPLES, bootstrap.batch(n)):
        yield random.integers(0, 2, (min(bootstrap.batch(n), bootstrap.RESAMPLES - first), n), dtype=np.int8)


def paired_difference(before: Sequence[float], after: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """mean(after) - mean(before) over the same rows: Tango's interval for 0/1 scores, else a BCa bootstrap of rows."""
    if len(before) != len(after) or not before:
        raise ValueError("paired scores must be of the same rows")
    if is_binary(before) and is_binary(after):
        won, lost = discordant(before, after)
        return tango(won, lost, len(before), confidence=confidence)
    differences = [a - b for b, a in zip(before, after, strict=True)]
    return bootstrap.of_sums(_ratio, [differences, [1.0] * len(differences)], confidence)


def paired_ratio_difference(
    before: tuple[Sequence[float], Sequence[float]],
    after: tuple[Sequence[float], Sequence[float]],
    *,
    relative: bool = False,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The difference of two ratios (nats per token) over the same rows, divided by the first one when `relative`."""
    statistic = _relative_ratio_difference if relative else _ratio_difference
    return bootstrap.of_sums(statistic, [*before, *after], confidence)


def unpaired_difference(first: Estimate, second: Estimate, *, confidence: float = CONFIDENCE) -> Estimate:
    """second - first of figures of different rows, with the interval made of theirs (MOVER: Zou & Donner 2008,
    Statistics in Medicine 27, 1693-1702; of Wilson's intervals it is Newcombe's tenth method, 1998). n is that of the
    smaller group; without intervals of both there is none."""
    value, n = second.value - first.value, min(first.n, second.n)
    one, other = first.at, second.at
    if one is None or other is None:
        return Estimate(value, n, None, None)

    def at(level: float) -> tuple[Bound, Bound]:
        (low, high), (lower, higher) = one(level), other(level)
        if low is None or high is None or lower is None or higher is None:
            return None, None
        down = math.hypot(second.value - lower, high - first.value)
        up = math.hypot(higher - second.value, first.value - low)
        return value - down, value + up

    return estimate(value, n, at, confidence, max(first.finest, second.finest))


def relative_difference(before: Sequence[float], after: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """(mean(after) - mean(before)) / mean(before). For 0/1 scores Tango's interval divided by the first mean, which is
    taken as known (a bootstrap collapses to a point when no pair differs); else a BCa bootstrap of rows."""
    first = math.fsum(before) / len(before)
    if first == 0:
        raise ValueError("a relative difference needs a first mean that is not zero")
    if is_binary(before) and is_binary(after):
        found = paired_difference(before, after, confidence=confidence)
        return found.mapped(lambda value: value / first)
    return bootstrap.of_sums(_relative_difference, [before, after], confidence)


def tango(won: int, lost: int, n: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """(won - lost) / n with Tango's score interval: the differences that a score test with the restricted maximum
    likelihood estimate of the discordant probability does not reject.

    `won` rows are right only after, `lost` only before, of `n` pairs.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    difference = (won - lost) / n

    def score(delta: float) -> float:
        variance = n * tango_variance(won, lost, n, delta)
        return (won - lost - n * delta) / math.sqrt(variance) if variance > 0 else 0.0

    def at(level: float) -> tuple[Bound, Bound]:
        z = float(norm.ppf(0.5 + level / 2))
        edge = 1e-12
        low = -1.0 if difference <= -1 else float(brentq(lambda d: score(d) - z, -1 + edge, difference))
        high = 1.0 if difference >= 1 else float(brentq(lambda d: score(d) + z, difference, 1 - edge))
        return low, high

    return estimate(difference, n, at, confidence)


def tango_variance(won: float, lost: float, n: float, delta: float) -> float:
    """Variance of one pair's difference, were the true difference `delta`: with the restricted maximum likelihood
    estimate of the probability that a pair is lost (Tango 1998)."""
    b = -won - lost + (2 * n - won + lost) * delta
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    return 2 * q + delta * (1 - delta)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _ratio(x: Any, n: Any) -> Any:
    return x / n


def _ratio_difference(x: Any, n: Any, y: Any, m: Any) -> Any:
    return y / m - x / n


def _relative_ratio_difference(x: Any, n: Any, y: Any, m: Any) -> Any:
    return (y / m) / (x / n) - 1


def _relative_difference(x: Any, y: Any) -> Any:
    return y / x - 1
