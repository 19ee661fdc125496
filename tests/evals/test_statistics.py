"""Figures against scipy, published examples and a simulation of the intervals' coverage."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgeft.evals import bootstrap, statistics
from edgeft.evals.estimate import Estimate, doubt, scaled


def test_wilson_and_clopper_pearson_are_scipys() -> None:
    found = statistics.proportion(8, 10)
    # Wilson's formula written out (Wilson 1927), z of 97.5 %
    z, p, n = 1.959963984540054, 0.8, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (found.low, found.high) == pytest.approx((middle - reach, middle + reach), abs=1e-12)
    exact = statistics.proportion(8, 10, method="exact")
    # Clopper and Pearson 1934: quantiles of the beta distribution
    assert (exact.low, exact.high) == pytest.approx((stats.beta.ppf(0.025, 8, 3), stats.beta.ppf(0.975, 9, 2)))


@pytest.mark.parametrize(
    ("won", "lost", "n", "low", "high"),
    [
        # Airway hyper-responsiveness before and after stem cell transplantation (Bentur et al. 2009), Tango's interval
        # as Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33, 2850-2875) print it: -0.517 to -0.026.
        (1, 7, 21, -0.517, -0.026),
    ],
)
def test_tango_gives_the_published_interval(won: int, lost: int, n: int, low: float, high: float) -> None:
    found = statistics.tango(won, lost, n)
    assert found.value == pytest.approx((won - lost) / n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


def test_tango_inverts_its_score_test() -> None:
    """At each limit the score statistic with the restricted maximum likelihood, found numerically, is the quantile."""
    from scipy.optimize import minimize_scalar

    won, lost, n = 12, 5, 150
    found = statistics.tango(won, lost, n)
    for delta, z in ((found.low, 1.959963984540054), (found.high, -1.959963984540054)):
        assert delta is not None

        def unlikely(q: float, delta: float = delta) -> float:  # q: probability of "lost", q + delta that of "won"
            rest = 1 - 2 * q - delta
            return -(won * math.log(q + delta) + lost * math.log(q) + (n - won - lost) * math.log(rest))

        q = minimize_scalar(
            unlikely,
            bounds=(max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9),
            method="bounded",
            options={"xatol": 1e-12},
        ).x
        score = (won - lost - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))
        assert score == pytest.approx(z, abs=1e-4)


def test_tango_is_symmetric_and_never_collapses() -> None:
    forward, backward = statistics.tango(9, 3, 100), statistics.tango(3, 9, 100)
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low))  # type: ignore[operator]
    same = statistics.tango(0, 0, 200)
    assert same.value == 0
    assert same.low == pytest.approx(-same.high, abs=1e-9)
    assert same.high > 0.01
    assert statistics.tango(50, 0, 50).high == 1.0
    assert statistics.tango(0, 50, 50).low == -1.0


def test_tango_covers_the_true_difference() -> None:
    draw = np.random.default_rng(1)
    inside = 0
    for won, lost, _ in draw.multinomial(150, [0.03, 0.07, 0.90], size=400):
        found = statistics.tango(int(won), int(lost), 150)
        inside += found.low <= -0.04 <= found.high  # type: ignore[operator]
    assert 0.92 <= inside / 400 <= 0.98


def test_mcnemar_is_the_exact_binomial_test() -> None:
    before = [1.0] * 10 + [0.0] * 11
    after = [0.0] * 7 + [1.0] * 3 + [1.0] + [0.0] * 10
    assert statistics.discordant(before, after) == (1, 7)
    assert statistics.mcnemar(before, after) == pytest.approx(stats.binomtest(1, 8, 0.5).pvalue)
    assert statistics.mcnemar(before, after) == pytest.approx(0.0703125)  # 2 * (1 + 8) / 2**8
    assert statistics.mcnemar(before, before) == 1.0


def test_permutation_enumerates_small_samples() -> None:
    before, after = [0.1, 0.4, 0.3, 0.9, 0.2], [0.3, 0.5, 0.1, 1.0, 0.6]
    differences = np.subtract(after, before)
    means = [abs(np.mean(differences * signs)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean(np.array(means) >= abs(differences.mean()) - 1e-12)
    assert statistics.permutation(before, after) == pytest.approx(expected)


def test_bootstrap_is_bca_deterministic_and_paired() -> None:
    draw = random.Random(3)
    before = [draw.random() for _ in range(60)]
    after = [score + 0.05 + draw.gauss(0, 0.02) for score in before]
    found = statistics.paired_difference(before, after)
    assert found == statistics.paired_difference(before, after)
    differences = np.subtract(after, before)
    # The rows vary far more than their differences: an unpaired interval would be about +-0.1 wide.
    low, high = stats.t.interval(0.95, 59, differences.mean(), stats.sem(differences))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.5e-3)


@pytest.mark.parametrize("n", [6, 60, 400])
def test_bca_is_scipys(n: int) -> None:
    """The same resamples, bias, acceleration and percentiles, at several confidences."""
    draw = np.random.default_rng(n)
    nats, tokens = draw.gamma(2.0, 1.0, n), draw.integers(1, 30, n).astype(float)
    others = nats + draw.normal(0.02, 0.1, n)

    def rise(x: Any, k: Any, y: Any, m: Any, axis: int = -1) -> Any:
        return (y.sum(axis) / m.sum(axis)) / (x.sum(axis) / k.sum(axis)) - 1

    found = statistics.paired_ratio_difference((nats, tokens), (others, tokens), relative=True)  # type: ignore[arg-type]
    for level in (0.8, 0.95, 0.99):
        wanted = stats.bootstrap(
            [nats, tokens, others, tokens], rise, vectorized=True, paired=True, n_resamples=bootstrap.RESAMPLES,
            confidence_level=level, rng=np.random.default_rng(bootstrap.SEED),
        ).confidence_interval  # fmt: skip
        assert found.at is not None
        assert found.at(level) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_permutation_of_many_rows_is_near_the_t_test() -> None:
    draw = np.random.default_rng(9)
    before = draw.normal(size=200)
    after = before + draw.normal(0.15, 1.0, 200)
    found = statistics.permutation(before.tolist(), after.tolist())
    assert found == pytest.approx(stats.ttest_rel(after, before).pvalue, abs=0.02)
    assert statistics.permutation(before.tolist(), before.tolist()) == 1.0


def test_ratio_resamples_rows_with_their_tokens() -> None:
    nats, tokens = [2.0, 30.0, 4.0, 9.0, 1.0, 7.0], [1.0, 10.0, 2.0, 3.0, 1.0, 3.0]
    found = statistics.ratio(nats, tokens)
    assert found.value == pytest.approx(53 / 20)
    assert found.low < 53 / 20 < found.high
    assert found.low > 1
    assert found.high < 4
    halved = statistics.paired_ratio_difference((nats, tokens), ([x / 2 for x in nats], tokens), relative=True)
    assert halved.value == pytest.approx(-0.5)
    assert halved.low == pytest.approx(-0.5) == halved.high


def test_edges() -> None:
    assert statistics.mean([0.5]).low is None
    assert statistics.mean([0.5, 0.5, 0.5]) == Estimate(0.5, 3, 0.5, 0.5)
    with pytest.raises(ValueError, match="no scores"):
        statistics.mean([])
    with pytest.raises(ValueError, match="same rows"):
        statistics.paired_difference([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="not zero"):
        statistics.relative_difference([0.0, 0.0], [1.0, 0.0])
    relative = statistics.relative_difference([1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0])
    assert relative.value == pytest.approx(-1 / 3)


def test_many_rows_stay_fast_and_small() -> None:
    values = [float(value) for value in np.random.default_rng(0).normal(1.0, 1.0, 5000)]
    found = statistics.mean(values)
    low, high = stats.t.interval(0.95, 4999, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=4e-3)


def test_holm() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_doubt_is_the_score_test_at_the_limit() -> None:
    """Inverting Wilson's interval is the score test of the proportion, inverting Tango's is his score test."""
    p, limit, n = 180 / 200, 0.95, 200
    z = (p - limit) / math.sqrt(limit * (1 - limit) / n)
    assert doubt(statistics.proportion(180, 200), limit) == pytest.approx(stats.norm.cdf(z), rel=1e-3)
    assert doubt(statistics.proportion(180, 200), 0.9) == 0.5
    won, lost, delta = 4, 20, -0.02
    variance = statistics.tango_variance(won, lost, n, delta)
    score = ((won - lost) / n - delta) / math.sqrt(variance / n)
    assert doubt(statistics.tango(won, lost, n), delta) == pytest.approx(stats.norm.cdf(score), rel=1e-3)
    assert doubt(statistics.mean([0.5]), 0.1) == 1.0


def test_doubt_of_a_bootstrap_is_the_share_of_resamples_beyond() -> None:
    """Above 2000 rows the interval is the bootstrap's percentiles, so the p value is the share beyond the limit."""
    values = [float(value) for value in np.random.default_rng(4).normal(0.0, 1.0, 2500)]
    found = statistics.mean(values)
    limit = found.value + 1.5 / math.sqrt(2500)
    assert doubt(found, limit) == pytest.approx(stats.norm.sf(1.5), abs=0.02)
    assert doubt(found, 10.0) == 1 / (bootstrap.RESAMPLES + 1), "no finer than the resamples tell"


def test_a_percentile_with_order_statistics() -> None:
    """The bounds are the order statistics whose ranks a binomial distribution gives (Conover 1999, section 3.2)."""
    values = sorted(float(v) for v in np.random.default_rng(2).gamma(2.0, 1.0, 200))
    found = statistics.percentile(values, 0.95)
    assert found.value == pytest.approx(np.percentile(values, 95))
    covered = stats.binom.cdf(values.index(found.high), 200, 0.95)
    assert covered >= 0.975 > stats.binom.cdf(values.index(found.high) - 1, 200, 0.95)
    few = statistics.percentile(values[:71], 0.95)
    assert few.high is None
    assert few.low is not None
    assert statistics.percentile(values[:73], 0.95).high is not None, "0.95 ** 73 is below 2.5 %"


def test_unpaired_proportions_are_newcombes_tenth_method() -> None:
    """Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, example (a): 56/70 and 48/80, method 10."""
    found = statistics.unpaired_difference(statistics.proportion(48, 80), statistics.proportion(56, 70))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert statistics.unpaired_difference(statistics.mean([0.5]), statistics.proportion(1, 2)).low is None


def test_units_may_change_and_signs() -> None:
    found = statistics.proportion(8, 10).mapped(lambda share: -100 * share)
    plain = statistics.proportion(8, 10)
    assert (found.low, found.high) == pytest.approx((-100 * plain.high, -100 * plain.low))
    assert found.at is not None
    assert found.at(0.5)[0] > found.low
    read = scaled(2.0, 10, 1.0, 4.0)
    assert read.at is not None
    assert read.at(0.95) == pytest.approx((1.0, 4.0))
    assert read.at(0.99)[1] == pytest.approx(2.0 + 2.0 * stats.norm.ppf(0.995) / stats.norm.ppf(0.975))


def test_rows_are_drawn_whole() -> None:
    rows = [np.full(5, float(i)) for i in range(12)]
    low, high = bootstrap.resampled_rows(rows, lambda values: float(values.mean())) or (0.0, 0.0)
    wide = 2 * 1.96 * np.std(range(12)) / math.sqrt(12)  # 12 rows, not 60 values
    assert high - low == pytest.approx(wide, rel=0.15)
    assert bootstrap.resampled_rows(rows[:1], np.mean) is None


def test_false_alarms_of_a_drop_are_rare_by_enumeration() -> None:
    """All outcomes of 100 pairs, weighted by their probability: the true drop is the limit, 0.03, and a gate that calls
    it more (or less) is wrong in at most 5 of 100 evaluations."""
    more = less = 0.0
    for won, lost in itertools.product(range(13), range(20)):
        probability = stats.multinomial.pmf([won, lost, 100 - won - lost], 100, [0.04, 0.07, 0.89])
        if probability > 1e-6:
            found = statistics.tango(won, lost, 100)
            more += probability * (found.high < -0.03)  # type: ignore[operator]
            less += probability * (found.low >= -0.03)  # type: ignore[operator]
    assert more == pytest.approx(0.0333, abs=5e-4)
    assert less == pytest.approx(0.0224, abs=5e-4)
