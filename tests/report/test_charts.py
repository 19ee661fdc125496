from __future__ import annotations

import itertools
import math

from edgeft.report import charts


def points(count: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 4 / (step + 1)} for step in range(count)]


def test_a_curve_stays_inside_its_frame() -> None:
    curve = charts.loss_curve([*points(50), {"step": 25, "eval_loss": 0.5}, {"step": 49, "eval_loss": 0.2}])
    assert curve is not None
    placed = [tuple(map(float, pair.split(","))) for pair in curve["train"].split()]
    assert len(placed) == 50
    assert all(charts.LEFT <= x <= charts.WIDTH - charts.RIGHT for x, _ in placed)
    assert all(charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM for _, y in placed)
    assert placed[0][1] < placed[-1][1]  # loss falls: down is a larger y
    assert [dot["value"] for dot in curve["held_dots"]] == [0.5, 0.2]
    assert curve["last_held"] == 0.2
    assert curve["y_ticks"][0]["label"] == "0"


def test_long_runs_are_thinned_and_keep_their_end() -> None:
    curve = charts.loss_curve(points(50_001))
    assert curve is not None
    assert len(curve["train"].split()) <= 602
    assert curve["train"].split()[-1].startswith(f"{charts.WIDTH - charts.RIGHT:g},")


def test_nothing_to_draw() -> None:
    assert charts.loss_curve([]) is None
    assert charts.loss_curve([{"step": 1, "loss": 2.0}]) is None
    assert charts.loss_curve([{"step": 1, "loss": math.nan}, {"step": 2, "loss": None}]) is None
    assert charts.trade_off([{"size": 1e6, "score": {"value": 1, "low": None, "high": None}, "name": "a"}]) is None


def test_ticks_are_round() -> None:
    assert charts._Axis(0, 3.1, 0, 100).ticks(5) == [0, 1, 2, 3]
    assert charts._Axis(0.0013, 0.0019, 0, 1).ticks(4) == [0.0014, 0.0016, 0.0018]
    assert charts._Axis(5, 5, 0, 1).ticks(2)  # a range of one value is no division by zero


def test_bars_are_shares_of_the_width() -> None:
    assert charts.bar({"value": 0.5, "low": 0.25, "high": 1.2}, 1.0) == {
        "value": 50,
        "low": 25,
        "high": 100,
        "width": 75,
    }
    assert charts.bar({"value": 0.5, "low": None, "high": None}, 1.0) == {
        "value": 50,
        "low": 50,
        "high": 50,
        "width": 0,
    }
    assert charts.bar(None, 1.0) is None


def test_labels_do_not_lie_on_each_other() -> None:
    score = {"value": 0.9, "low": 0.8, "high": 0.95}
    entries = [{"name": f"f{i}", "size": 4e6 + i, "score": score, "passed": True} for i in range(4)]
    drawn = charts.trade_off(entries)
    assert drawn is not None
    heights = sorted(dot["label_y"] for dot in drawn["dots"])
    assert all(second - first >= 13.9 for first, second in itertools.pairwise(heights))
