"""The drawings: reproducible, in the page's colours, with hostile names as text, and nothing where nothing is known."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeft.report import plots

HOSTILE = "</text><script>$x$&"
SCORE = {"suite": "task", "metric": "exact_match", "value": 0.9, "n": 20, "low": 0.8, "high": 0.95}


def points(count: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 4 / (step + 1)} for step in range(count)]


def files(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "size": 4_000_000 + i, "score": SCORE, "passed": i != 1, "all": {"mean_kl": 0.01 * (i + 1)}}
        for i, name in enumerate(names)
    ]


def texts(svg: str) -> list[str]:
    tree = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    return ["".join(element.itertext()) for element in tree.iter("text")]


def test_a_curve_is_drawn_twice_and_the_same_each_time() -> None:
    curve = [*points(50), {"step": 25, "eval_loss": 0.5}, {"step": 49, "eval_loss": 0.2}]
    drawn, again = plots.loss_curve(curve), plots.loss_curve(curve)
    assert drawn is not None
    assert drawn == again
    assert drawn.wide != drawn.narrow
    assert drawn.label == "Loss over training steps: training ends at 0.0800, validation ends at 0.2000."
    for svg in (drawn.wide, drawn.narrow):
        assert {"training", "validation", "step", "loss, nats per token"} <= set(texts(svg))
        assert "var(--tuned)" in svg
        assert "var(--held)" in svg
        assert not re.search(r"#0a0[0-7]f3|<style|<metadata|https?:|Date", svg)


def test_overfitting_is_marked() -> None:
    held = [{"step": step, "eval_loss": loss} for step, loss in ((10, 1.0), (20, 0.5), (30, 0.8))]
    assert plots.overfitted(held) == {"from": 20, "to": 30, "rise": pytest.approx(0.3), "lowest": 0.5}
    drawn = plots.loss_curve([*points(30), *held])
    assert drawn is not None
    assert "overfitting" in texts(drawn.wide)
    assert "rises from step 20" in drawn.label
    assert plots.overfitted(held[:2]) is None
    assert plots.overfitted([*held[:2], {"step": 30, "eval_loss": 0.503}]) is None


def test_long_runs_are_thinned_and_keep_their_end() -> None:
    series = plots._series(points(50_001), "loss")
    assert len(series) <= plots.MOST_POINTS + 1
    assert series[-1][0] == 50_000


def test_nothing_to_draw() -> None:
    assert plots.loss_curve([]) is None
    assert plots.loss_curve([{"step": 1, "loss": 2.0}]) is None
    assert plots.loss_curve([{"step": 1, "loss": math.nan}, {"step": 2, "loss": None}]) is None
    assert plots.trade_off(files("a"), {}, {}) is None
    assert plots.forgetting([{"group": "a", "suite": "s", "metric": "loss", "change": {"value": 1}}]) is None
    assert plots.lengths({}, 256) is None
    assert plots.lengths({"train": {"length": {}}}, None) is None


def test_files_by_size_quality_and_speed() -> None:
    drawn = plots.trade_off(files("b", "a", HOSTILE), {"a": 120.0}, {"score": 0.92, "rate": None})
    assert drawn is not None
    found = texts(drawn.wide)
    assert {"size, MB", "exact_match, %", "mean KL (0: identical)", "tokens/s", "a", "b", HOSTILE} <= set(found)
    assert found.count("a") == 1  # names once in the wide one, beside each panel in the narrow one
    assert texts(drawn.narrow).count("a") == 4
    assert "var(--bad)" in drawn.wide
    assert "<script" not in drawn.wide
    without = plots.trade_off([{**file, "score": None, "all": None} for file in files("b", "a")], {}, {})
    assert without is not None
    assert "size, MB" in texts(without.wide)
    assert "tokens/s" not in texts(without.wide)


def test_forgetting_names_each_skill() -> None:
    rows = [
        {"group": name, "suite": "general", "metric": "exact_match", "direction": direction,
         "change": {"value": value, "low": value - 0.01, "high": value + 0.01}}
        for name, value, direction in (("arithmetic", -0.05, "worse"), ("x" * 80, 0.0, ""))
    ]  # fmt: skip
    drawn = plots.forgetting(rows)
    assert drawn is not None
    assert {"arithmetic", "x" * 25 + "…"} <= set(texts(drawn.narrow))
    assert "arithmetic -5.0 pt" in drawn.label


def test_lengths() -> None:
    bins = [{"from": 0, "below": 10, "rows": 3}, {"from": 10, "below": 20, "rows": 5}]
    drawn = plots.lengths({"train": {"length": {"min": 2, "p50": 11, "max": 19, "histogram": bins}}}, 20)
    assert drawn is not None
    assert drawn.label == "Tokens per training row: min 2, p50 11, max 19."
    assert "sequence_len 20" in texts(drawn.wide)
