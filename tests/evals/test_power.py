"""The rows that a gate asks for, against published sizes and other programs' formulas."""

from __future__ import annotations

import math

from scipy import stats

from edgeft.evals import power
from edgeft.evals.estimate import scaled
from edgeft.evals.statistics import mean


def test_a_proportion_is_the_textbook_formula() -> None:
    """n = (z_a sqrt(p0 q0) + z_b sqrt(p1 q1))^2 / (p1 - p0)^2 (Fleiss, Levin & Paik 2003, section 2.5): 0.90 against
    0.85 at 2.5 % one-sided and power 0.8 takes 363.4 rows by hand."""
    by_hand = (1.959964 * math.sqrt(0.9 * 0.1) + 0.841621 * math.sqrt(0.85 * 0.15)) ** 2 / 0.05**2
    assert power.for_proportion(0.85, 0.90) == math.ceil(by_hand) == 316
    assert power.for_proportion(0.9, 0.9) is None


def test_paired_proportions_against_no_difference_are_connors() -> None:
    """Connor 1987: n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2 with psi the share of discordant pairs."""
    won, lost, n = 10, 30, 200
    psi, d = (won + lost) / n, (won - lost) / n
    by_hand = (1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - d * d)) ** 2 / d**2
    assert power.for_paired(won, lost, n, 0.0) == math.ceil(by_hand)


def test_without_any_discordant_pair_the_limit_alone_asks() -> None:
    needed = power.for_paired(0, 0, 50, -0.03)
    assert needed is not None
    assert 100 < needed < 150  # Tango's interval of none in n reaches -0.03 at n = 124


def test_other_figures_by_the_width_of_their_interval() -> None:
    found = scaled(0.0, 100, -0.1, 0.1)  # a standard error of 0.051 with 100 rows
    by_hand = ((1.959964 + 0.841621) * (0.1 / 1.959964) * 10 / 0.05) ** 2
    assert power.for_estimate(found, 0.05) == math.ceil(by_hand)
    assert power.for_estimate(mean([0.5]), 0.1) is None
    assert power.for_estimate(found, 1e-6) is None, "nobody will ask that many"


def test_a_percentile_never_takes_fewer_than_its_interval() -> None:
    assert power.for_percentile([0.1] * 12, 0.95, 0.2) == 73
    assert stats.binom.cdf(71, 72, 0.95) >= 0.975 > stats.binom.cdf(70, 71, 0.95)
