from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from edgeft.errors import DataError, InputError
from edgeft.evals.estimate import Estimate
from edgeft.evals.gates import Check, judge, settle, without_times
from edgeft.evals.measured import measure, measure_figure, measure_latency
from edgeft.evals.power import for_proportion
from edgeft.evals.statistics import permutation, tango
from edgeft.recipe.gates import Gate, parse

METRICS = {"task": ("exact_match", "f1", "loss"), "general": ("exact_match", "loss")}


def rows(
    scores: list[float], suite: str = "task", metric: str = "exact_match", loss: float = 2.0
) -> list[dict[str, Any]]:
    return [
        {
            "suite": suite,
            "id": str(i),
            "group": "",
            "expected": "x",
            "scores": {metric: s},
            "loss": loss + i % 3,
            "tokens": 2,
        }
        for i, s in enumerate(scores)
    ]


def ones(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def check(line: str, after: list[float], before: list[float] | None = None, **keywords: Any) -> Check:
    gate: Gate = parse(line, METRICS, ["gguf-q8_0"])
    suite = gate.suite or "task"
    name = gate.metric if gate.metric != "loss" else "exact_match"
    return judge(gate, rows(after, suite, name), None if before is None else rows(before, suite, name), **keywords)


@pytest.mark.parametrize(
    ("right", "undecided", "status", "passed"),
    [
        (200, "fail", "passed", True),  # Wilson's low limit of 200 of 200 is 0.981
        (185, "estimate", "undecided", True),  # 0.925, interval 0.880 to 0.954
        (185, "fail", "undecided", False),
        (175, "estimate", "undecided", False),  # 0.875, interval 0.822 to 0.914
        (175, "pass", "undecided", True),
        (175, None, "undecided", True),
        (150, "pass", "failed", False),
    ],
)
def test_a_level(right: int, undecided: str | None, status: str, passed: bool) -> None:
    policy = {"undecided": undecided} if undecided else {}
    found = check("task.exact_match >= 0.90", ones(right, 200), **policy)
    wilson = stats.binomtest(right, 200).proportion_ci(method="wilson")
    assert (found.status, found.passed) == (status, passed)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    assert (found.value, found.figure, found.base, found.n, found.limit) == (right / 200, right / 200, None, 200, 0.9)


def test_a_drop_is_paired() -> None:
    """Eight rows lost and six won of 400: an unpaired comparison could not call a drop of half a point below 3."""
    before = [1.0] * 8 + [0.0] * 6 + ones(300, 386)
    after = [0.0] * 8 + [1.0] * 6 + ones(300, 386)
    found = check("general.exact_match drop <= 0.03", after, before)
    wanted = tango(6, 8, 400)
    assert found.status == "passed"
    assert found.figure == pytest.approx(0.005)
    assert (found.low, found.high) == pytest.approx((-wanted.high, -wanted.low))  # type: ignore[operator]
    assert found.p_value == pytest.approx(stats.binomtest(6, 14).pvalue)
    assert (found.base, found.value) == (308 / 400, 306 / 400)


def test_a_worse_model_fails_and_says_why() -> None:
    found = check("general.exact_match drop <= 0.03", ones(100, 200), ones(190, 200))
    assert (found.status, found.passed) == ("failed", False)
    assert found.detail.startswith("general.exact_match went from 0.95 to 0.5, a drop of 0.45 (95 % interval 0.3")
    assert found.detail.endswith("200 rows); asked for <= 0.03")


def test_undecided_says_how_many_rows_would_tell() -> None:
    found = check("general.exact_match drop <= 0.03", ones(186, 200), ones(190, 200))
    assert (found.status, found.passed) == ("undecided", True)
    assert "too few rows to tell (about" in found.detail
    assert found.detail.endswith("so it passes (undecided: pass)")
    needed = int(found.detail.split("(about ")[1].split()[0])
    scale = needed // 200 + 1
    assert check("general.exact_match drop <= 0.03", ones(186, 200) * scale, ones(190, 200) * scale).status == "passed"


def test_a_figure_without_an_interval_can_still_fail() -> None:
    """One row says nothing of others: with undecided gates passing, such a gate would pass whatever was measured."""
    gate = parse("gguf-q8_0.mean_kl <= 0.01", METRICS, ["gguf-q8_0"])
    for value, policy, passed in ((0.5, "pass", False), (0.001, "pass", True), (0.001, "fail", False)):
        (found,) = settle(
            [measure_figure(gate, {"mean_kl": Estimate(value, 1, None, None)})],
            undecided=policy,  # type: ignore[arg-type]
        )
        assert (found.status, found.passed) == ("undecided", passed)


def test_binary_floating_point_does_not_decide() -> None:
    """0.95 - 0.92 is 0.0300000000000000027 in float64."""
    found = check("general.exact_match drop <= 0.03", ones(92, 100), ones(95, 100))
    assert found.passed


def test_a_rise_of_the_loss_in_percent() -> None:
    after = rows(ones(30, 60), loss=2.1)
    before = rows(ones(30, 60), loss=2.0)
    gate = parse("task.loss rise <= 3%", METRICS, [])
    found = judge(gate, after, before)
    assert found.figure == pytest.approx(0.1 / 3.0)
    assert found.base == pytest.approx(1.5)
    assert found.value == pytest.approx(1.55)
    assert (found.status, found.passed) == ("failed", False)
    assert "a rise of 3.33 %" in found.detail
    assert judge(parse("task.loss rise <= 10%", METRICS, []), after, before).status == "passed"


def test_fractional_scores_are_bootstrapped() -> None:
    before = [0.5, 0.7, 0.9, 0.4, 0.8] * 20
    after = [score - 0.2 for score in before[:50]] + before[50:]
    found = check("task.f1 drop <= 0.05", after, before)
    assert found.figure == pytest.approx(0.1)
    assert found.status == "failed"
    assert found.p_value == pytest.approx(permutation(before, after))


def test_a_relative_drop_from_nothing() -> None:
    assert check("task.exact_match rise <= 5%", ones(0, 50), ones(0, 50)).passed
    found = check("task.exact_match rise <= 5%", ones(1, 50), ones(0, 50))
    assert not found.passed
    assert found.figure is None


def test_rows_must_pair() -> None:
    with pytest.raises(DataError, match="not of the same rows"):
        check("task.exact_match drop <= 0.1", ones(3, 5), ones(3, 6))


def test_a_fidelity_figure() -> None:
    gate = parse("gguf-q8_0.mean_kl <= 0.01", METRICS, ["gguf-q8_0"])
    (found,) = settle([measure_figure(gate, {"mean_kl": Estimate(0.004, 900, 0.003, 0.005)})])
    assert (found.status, found.passed) == ("passed", True)
    (found,) = settle([measure_figure(gate, {"mean_kl": Estimate(0.04, 900, 0.04, 0.04)})])
    assert (found.status, found.n, found.detail) == ("failed", 900, "mean_kl is 0.04 (n 900); asked for <= 0.01")


def test_json_has_no_more_digits_than_it_needs() -> None:
    found = check("task.exact_match >= 0.5", ones(2, 3)).as_json()
    assert found["value"] == 0.666667
    assert found["gate"] == "task.exact_match >= 0.5"


def named(metric: str, scores: list[float], suite: str) -> list[dict[str, Any]]:
    return [{**row, "suite": suite} for row in rows(scores, suite, metric)]


def test_a_gate_that_fails_alone_may_be_chance_among_many() -> None:
    """Seven of a hundred rows lost, none won: p is 0.0134 against a drop of 0.02, times five gates above 2.5 %."""
    suites = [f"s{i}" for i in range(5)]
    known = dict.fromkeys(suites, ("exact_match", "loss"))
    before = [row for suite in suites for row in named("exact_match", [1.0] * 100, suite)]
    lost = {"s0": 7}
    after = [row for suite in suites for row in named("exact_match", ones(100 - lost.get(suite, 0), 100), suite)]
    gates = [parse(f"{suite}.exact_match drop <= 0.02", known, []) for suite in suites]
    alone = judge(gates[0], after, before)
    assert (alone.status, alone.passed) == ("failed", False)
    together = settle([measure(gate, after, before) for gate in gates], undecided="pass")
    assert together[0].status == "undecided"
    assert together[0].passed
    assert together[0].p_limit == pytest.approx(5 * alone.p_limit)  # type: ignore[operator]
    assert "as one of 5 gates it may be chance" in together[0].detail
    assert {check.status for check in together[1:]} == {"undecided"}


def test_undecided_asks_for_a_number_of_rows_by_power() -> None:
    found = check("task.exact_match >= 0.90", ones(185, 200))
    assert found.rows_needed == for_proportion(0.925, 0.90)
    assert f"about {found.rows_needed} would" in found.detail
    at_limit = check("task.exact_match >= 0.90", ones(180, 200))
    assert at_limit.rows_needed is None
    assert "no number of rows would" in at_limit.detail


def test_a_family_that_was_not_asked_is_named() -> None:
    known = {"task": ("exact_match", "loss")}
    asked = [{**row, "group": "kitchen"} for row in rows(ones(3, 5))]
    with pytest.raises(InputError, match="nothing was evaluated on 'task/kitchn'") as caught:
        judge(parse("task/kitchn.exact_match >= 0.5", known, []), asked, None)
    assert caught.value.do == "did you mean 'task/kitchen'?"
    assert judge(parse("task/kitchen.exact_match >= 0.1", known, []), asked, None).n == 5


def test_times_are_judged_but_leave_no_figure_in_what_is_reproducible() -> None:
    gate = parse("p95_latency <= 200ms", METRICS, [])
    (fast,) = settle([measure_latency(gate, [0.05 + i / 2000 for i in range(100)], 0.95)])
    assert (fast.status, fast.timed) == ("passed", True)
    assert "p95_latency is 97.03 ms" in fast.detail
    (few,) = settle([measure_latency(gate, [0.05] * 12, 0.95)])
    assert (few.status, few.passed, few.rows_needed) == ("undecided", True, 73)
    (slow,) = settle([measure_latency(gate, [0.5] * 12, 0.95)])
    assert slow.status == "failed"
    kept = without_times(slow).as_json()
    assert (kept["status"], kept["limit"], kept["value"], kept["high"]) == ("failed", 0.2, None, None)
    assert "timing.json" in kept["detail"]
