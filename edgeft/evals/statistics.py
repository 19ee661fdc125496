"""What a figure is worth: intervals for a level, intervals and tests for a paired difference. Called by `gates`,
`scores` and `fidelity`.

Every function takes scores in the order of the rows, is deterministic (bootstraps draw from a fixed seed) and says n.
A level of 95 % is meant everywhere; `confidence` changes it. Sources: Wilson 1927 and Clopper & Pearson 1934 as scipy
has them; Tango 1998, Statistics in Medicine 17, 891-908 (paired difference of proportions); Efron 1987 (BCa) as scipy
has it; McNemar 1947 in its exact form, a binomial test of the discordant pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


def is_binary(scores: Sequence[float]) -> bool:
    """Whether every score is 0 or 1, so that the mean is a proportion."""
    return all(score in (0.0, 1.0) for score in scores)


def proportion(successes: int, n: int, *, method: str = "wilson", confidence: float = CONFIDENCE) -> Estimate:
    """A proportion with Wilson's interval ("wilson") or Clopper and Pearson's ("exact")."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method=method)
    return Estimate(successes / n, n, float(interval.low), float(interval.high))


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
    """Two-sided p value that the paired scores differ in the mean, by swapping the labels within rows."""
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


def relative_difference(before: Sequence[float], after: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """(mean(after) - mean(before)) / mean(before). For 0/1 scores Tango's interval divided by the first mean, which is
    taken as known (a bootstrap collapses to a point when no pair differs); else a BCa bootstrap of rows."""
    first = math.fsum(before) / len(before)
    if first == 0:
        raise ValueError("a relative difference needs a first mean that is not zero")
    if is_binary(before) and is_binary(after):
        found = paired_difference(before, after, confidence=confidence)
        low = None if found.low is None else found.low / first
        high = None if found.high is None else found.high / first
        return Estimate(found.value / first, found.n, low, high)
    return _bootstrap(_relative_mean_difference, [before, after], confidence)


def tango(won: int, lost: int, n: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """(won - lost) / n with Tango's score interval: the differences that a score test with the restricted maximum
    likelihood estimate of the discordant probability does not reject.

    `won` rows are right only after, `lost` only before, of `n` pairs.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    difference = (won - lost) / n

    def score(delta: float) -> float:
        b = -won - lost + (2 * n - won + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        return (won - lost - n * delta) / math.sqrt(variance) if variance > 0 else 0.0

    edge = 1e-12
    low = -1.0 if difference <= -1 else float(brentq(lambda d: score(d) - z, -1 + edge, difference))
    high = 1.0 if difference >= 1 else float(brentq(lambda d: score(d) + z, difference, 1 - edge))
    return Estimate(difference, n, low, high)


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


def _bootstrap(statistic: Callable[..., Any], samples: Sequence[Sequence[float]], confidence: float) -> Estimate:
    """BCa over rows that are resampled together, plain percentiles above `_BCA_ROWS` rows. Where BCa is not defined
    (every row alike, or the value at the edge of what resampling gives) the percentiles stand in."""
    import numpy as np
    from scipy.stats import DegenerateDataWarning, bootstrap

    data = [np.asarray(sample, dtype=np.float64) for sample in samples]
    n = len(data[0])
    value = float(statistic(*data, axis=-1))
    if n < 2:
        return Estimate(value, n, None, None)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found = bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            batch=_batch(n),
            vectorized=True,
            paired=True,
            confidence_level=confidence,
            method="BCa" if n <= _BCA_ROWS else "percentile",
            rng=np.random.default_rng(SEED),
        )
    low, high = float(found.confidence_interval.low), float(found.confidence_interval.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return _percentile(found.bootstrap_distribution, value, n, confidence)
    return Estimate(value, n, low, high)


def _percentile(distribution: NDArray[np.float64], value: float, n: int, confidence: float) -> Estimate:
    import numpy as np

    tail = 50 * (1 - confidence)
    low, high = np.percentile(distribution, [tail, 100 - tail])
    return Estimate(value, n, min(float(low), value), max(float(high), value))


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
