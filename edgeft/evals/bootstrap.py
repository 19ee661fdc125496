"""Intervals by resampling rows: BCa for what is made of sums over rows, percentiles for anything else. Called by
`statistics`, `divergence` and `scores`.

BCa is Efron's (1987), with the constants that scipy's `bootstrap` has; it is written out here because every figure that
is judged is a function of sums over rows (a mean, a ratio, a difference of ratios): its jackknife takes one subtraction
per row instead of a copy of all rows, and an interval at another confidence takes no new resamples. A test compares it
with scipy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.evals.estimate import CONFIDENCE, Bound, Estimate, estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 1999
SEED = 20260
_BCA_ROWS = 2000  # with more, BCa's correction is below the bootstrap's own noise
_BATCH_VALUES = 2_000_000  # values that one batch of resamples may hold: 16 MB
OfSums = Callable[..., Any]  # sums over rows, one array per sample -> the statistic of each


def batch(n: int) -> int:
    """Resamples of `n` rows that are drawn at once."""
    return max(1, _BATCH_VALUES // max(n, 1))


def of_sums(
    statistic: OfSums, samples: Sequence[Sequence[float]], confidence: float, resamples: int = RESAMPLES
) -> Estimate:
    """A statistic of sums of samples over the same rows, with its BCa interval; plain percentiles above `_BCA_ROWS`
    rows. Where BCa is not defined (every row alike, or the value at the edge of what resampling gives) the percentiles
    stand in."""
    import numpy as np

    data = [np.asarray(sample, dtype=np.float64) for sample in samples]
    n = len(data[0])
    value = float(statistic(*(sample.sum() for sample in data)))
    if n < 2:
        return Estimate(value, n, None, None)
    drawn = _drawn(statistic, data, resamples)
    bias, acceleration = _corrections(statistic, data, drawn, value) if n <= _BCA_ROWS else (0.0, 0.0)

    def at(level: float) -> tuple[Bound, Bound]:
        tails = (1 - level) / 2, (1 + level) / 2
        if n > _BCA_ROWS:
            return _at(drawn, *tails)
        corrected = [_corrected(tail, bias, acceleration) for tail in tails]
        return percentiles(drawn, value, level) if any(map(math.isnan, corrected)) else _at(drawn, *corrected)

    return estimate(value, n, at, confidence, finest=1 / (resamples + 1))


def _drawn(statistic: OfSums, data: Sequence[NDArray[np.float64]], resamples: int) -> NDArray[np.float64]:
    """float64[resamples], sorted: the statistic of rows drawn with replacement."""
    import numpy as np

    n = len(data[0])
    random = np.random.default_rng(SEED)
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for first in range(0, resamples, batch(n)):
            rows = random.integers(0, n, (min(batch(n), resamples - first), n))
            found.append(statistic(*(sample[rows].sum(axis=1) for sample in data)))
    drawn: NDArray[np.float64] = np.sort(np.concatenate(found))
    return drawn


def _corrections(
    statistic: OfSums, data: Sequence[NDArray[np.float64]], drawn: NDArray[np.float64], value: float
) -> tuple[float, float]:
    """BCa's bias (of the median, as a normal deviate) and acceleration (from the statistic without each row); NaN where
    there is none."""
    import numpy as np
    from scipy.special import ndtri

    below, up_to = np.searchsorted(drawn, value, "left"), np.searchsorted(drawn, value, "right")
    bias = float(ndtri((below + up_to) / (2 * len(drawn))))
    with np.errstate(divide="ignore", invalid="ignore"):
        without = statistic(*(sample.sum() - sample for sample in data))
        influence = without.mean() - without
        spread = (influence**2).sum()
        if not spread > 1e-24 * (without**2).sum():  # every row alike, but for rounding
            return math.nan, math.nan
        return bias, float((influence**3).sum() / spread**1.5 / 6)


def _corrected(tail: float, bias: float, acceleration: float) -> float:
    from scipy.special import ndtr, ndtri

    if not math.isfinite(bias):
        return math.nan
    deviate = bias + float(ndtri(tail))
    return float(ndtr(bias + deviate / (1 - acceleration * deviate)))


def _at(drawn: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    import numpy as np

    first, last = np.percentile(drawn, [100 * low, 100 * high])
    return float(first), float(last)


def percentiles(drawn: NDArray[np.float64], value: float, confidence: float) -> tuple[float, float]:
    """The percentile interval of what resampling gave; it holds the value."""
    low, high = _at(drawn, (1 - confidence) / 2, (1 + confidence) / 2)
    return min(low, value), max(high, value)


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
    return percentiles(np.asarray(drawn), statistic(np.concatenate(rows)), CONFIDENCE)
