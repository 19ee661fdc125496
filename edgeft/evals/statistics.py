"""What a figure is worth: intervals for a level, intervals and tests for a paired difference. Called by `gates`,
`power`, `scores`, `fidelity` and `drift`.

Every function takes scores in the order of the rows, is deterministic (bootstraps draw from a fixed seed) and says n.
A level of 95 % is meant everywhere; `confidence` changes it. Sources: Wilson 1927 and Clopper & Pearson 1934 as scipy
has them; Tango 1998, Statistics in Medicine 17, 891-908 (paired difference of proportions); Efron 1987 (BCa) as scipy
has it; McNemar 1947 in its exact form, a binomial test of the discordant pairs; the interval of a percentile from
order statistics (Conover 1999, section 3.2) as scipy has it.

An estimate can give its interval at any confidence, so that a test against any limit is the inversion of the interval
that people see: `doubt` says how far the confidence can be raised before the interval reaches the limit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bound = float | None
Interval = Callable[[float], tuple[Bound, Bound]]
CONFIDENCE = 0.95
RESAMPLES = 1999
SEED = 20260
_BCA_ROWS = 2000  # with more, BCa's correction is below the bootstrap's own noise, and its jackknife costs rows squared
_BATCH_VALUES = 2_000_000  # float64 values that one bootstrap batch may hold: 16 MB


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


def resampled_rows(
    rows: Sequence[NDArray[np.float64]], statistic: Callable[[NDArray[np.float64]], float], resamples: int = 499
) -> tuple[float, float] | None:
    """The percentile interval of a statistic of all values of all rows, whole rows being drawn; None for one row."""
    import numpy as np

    if len(rows) < 2:
        return None
    draw = np.random.default_rng(SEED)
    drawn = [
        statistic(np.concatenate([rows[i] for i in draw.integers(0, len(rows), len(rows))])) for _ in range(resamples)
    ]
    return _percentiles(np.asarray(drawn), statistic(np.concatenate(rows)), CONFIDENCE)


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
    return _bootstrap(_mean, [scores], confidence)


def ratio(numerators: Sequence[float], denominators: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """sum(numerators) / sum(denominators), such as nats per token; rows are resampled (BCa), not tokens, because the
    tokens of one row are not independent."""
    return _bootstrap(_ratio, [numerators, denominators], confidence)


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
    labels within rows."""
    import numpy as np
    from scipy.stats import permutation_test

    result = permutation_test(
        (np.asarray(after, float), np.asarray(before, float)),
        _mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_batch(len(before)),
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def paired_difference(before: Sequence[float], after: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """mean(after) - mean(before) over the same rows: Tango's interval for 0/1 scores, else a BCa bootstrap of rows."""
    if len(before) != len(after) or not before:
        raise ValueError("paired scores must be of the same rows")
    if is_binary(before) and is_binary(after):
        won, lost = discordant(before, after)
        return tango(won, lost, len(before), confidence=confidence)
    differences = [a - b for b, a in zip(before, after, strict=True)]
    return _bootstrap(_mean, [differences], confidence)


def paired_ratio_difference(
    before: tuple[Sequence[float], Sequence[float]],
    after: tuple[Sequence[float], Sequence[float]],
    *,
    relative: bool = False,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The difference of two ratios (nats per token) over the same rows, divided by the first one when `relative`."""
    statistic = _relative_ratio_difference if relative else _ratio_difference
    return _bootstrap(statistic, [*before, *after], confidence)


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
    return _bootstrap(_relative_mean_difference, [before, after], confidence)


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


def _batch(n: int) -> int:
    return max(1, _BATCH_VALUES // max(n, 1))


def _bootstrap(
    statistic: Callable[..., Any], samples: Sequence[Sequence[float]], confidence: float, resamples: int = RESAMPLES
) -> Estimate:
    """BCa over rows that are resampled together, plain percentiles above `_BCA_ROWS` rows. Where BCa is not defined
    (every row alike, or the value at the edge of what resampling gives) the percentiles stand in."""
    import numpy as np
    from scipy.stats import DegenerateDataWarning, bootstrap

    data = [np.asarray(sample, dtype=np.float64) for sample in samples]
    n = len(data[0])
    value = float(statistic(*data, axis=-1))
    if n < 2:
        return Estimate(value, n, None, None)
    drawn: Any = None

    def at(level: float) -> tuple[Bound, Bound]:
        nonlocal drawn
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", DegenerateDataWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            drawn = bootstrap(
                data,
                statistic,
                n_resamples=0 if drawn is not None else resamples,
                batch=_batch(n),
                vectorized=True,
                paired=True,
                confidence_level=level,
                method="BCa" if n <= _BCA_ROWS else "percentile",
                bootstrap_result=drawn,
                rng=np.random.default_rng(SEED),
            )
        low, high = float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
        if not (math.isfinite(low) and math.isfinite(high)):
            return _percentiles(drawn.bootstrap_distribution, value, level)
        return low, high

    return estimate(value, n, at, confidence, finest=1 / (resamples + 1))


def _percentiles(distribution: NDArray[np.float64], value: float, confidence: float) -> tuple[float, float]:
    import numpy as np

    tail = 50 * (1 - confidence)
    low, high = np.percentile(distribution, [tail, 100 - tail])
    return min(float(low), value), max(float(high), value)


def _mean(x: Any, axis: int = -1) -> Any:
    return x.mean(axis=axis)


def _mean_difference(x: Any, y: Any, axis: int = -1) -> Any:
    return x.mean(axis=axis) - y.mean(axis=axis)


def _ratio(x: Any, y: Any, axis: int = -1) -> Any:
    return x.sum(axis=axis) / y.sum(axis=axis)


def _ratio_difference(x: Any, n: Any, y: Any, m: Any, axis: int = -1) -> Any:
    return _ratio(y, m, axis) - _ratio(x, n, axis)


def _relative_ratio_difference(x: Any, n: Any, y: Any, m: Any, axis: int = -1) -> Any:
    return _ratio(y, m, axis) / _ratio(x, n, axis) - 1


def _relative_mean_difference(x: Any, y: Any, axis: int = -1) -> Any:
    return y.mean(axis=axis) / x.mean(axis=axis) - 1
