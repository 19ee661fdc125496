"""Where lines, dots and labels of the page's drawings stand. Geometry only: `page.html` draws it as SVG, escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 34
_MOST_POINTS = 600  # of a line: a page is no place for every step of a long run


def loss_curve(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Lines of training and evaluation loss over steps; None when there are no two points to draw."""
    train = _series(points, "loss")
    held = _series(points, "eval_loss")
    every = train + held
    if len(every) < 2 or len({x for x, _ in every}) < 2:
        return None
    x_axis = _Axis(min(x for x, _ in every), max(x for x, _ in every), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(min(0.0, *(y for _, y in every)), max(y for _, y in every) * 1.05, HEIGHT - BOTTOM, TOP)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "train": _line(train, x_axis, y_axis),
        "held": _line(held, x_axis, y_axis),
        "held_dots": [{"x": x_axis.at(x), "y": y_axis.at(y), "value": y, "step": x} for x, y in held[:_MOST_POINTS]],
        "x_ticks": [{"x": x_axis.at(tick), "label": f"{tick:g}"} for tick in x_axis.ticks(6)],
        "y_ticks": [{"y": y_axis.at(tick), "label": f"{tick:g}"} for tick in y_axis.ticks(5)],
        "last_train": train[-1][1] if train else None,
        "last_held": held[-1][1] if held else None,
    }


def _series(points: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    found = [(float(point["step"]), float(point[key])) for point in points if _number(point.get(key))]
    step = max(1, math.ceil(len(found) / _MOST_POINTS))
    return found[::step] + ([found[-1]] if found and (len(found) - 1) % step else [])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _line(series: Sequence[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    return " ".join(f"{x_axis.at(x):g},{y_axis.at(y):g}" for x, y in series)


class _Axis:
    """A range of values on a range of pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, about: int) -> list[float]:
        """Round values inside the range: steps of 1, 2 or 5 times a power of ten."""
        raw = (self.high - self.low) / about
        power = 10 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * i, 10) for i in range(first, last + 1)]


def bar(estimate: Mapping[str, Any] | None, highest: float) -> dict[str, float] | None:
    """A value with its interval on a line from 0 to `highest`, in percent of the width."""
    if estimate is None:
        return None

    def at(value: float) -> float:
        return round(100 * min(max(value / highest, 0.0), 1.0), 2) if highest else 0.0

    value = float(estimate["value"])
    low = value if estimate["low"] is None else float(estimate["low"])
    high = value if estimate["high"] is None else float(estimate["high"])
    return {"value": at(value), "low": at(low), "high": at(high), "width": round(at(high) - at(low), 2)}


def trade_off(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Files by size and score, with the score's interval; None with fewer than two files to compare."""
    dots = [entry for entry in entries if entry["size"] and entry["score"]]
    if len(dots) < 2:
        return None
    sizes = [entry["size"] / 1e6 for entry in dots]
    lows = [_edge(entry["score"], "low") for entry in dots]
    highs = [_edge(entry["score"], "high") for entry in dots]
    room = 0.08 * max(max(sizes) - min(sizes), max(sizes) * 0.1)
    x_axis = _Axis(max(0.0, min(sizes) - room), max(sizes) + 2.5 * room, LEFT, WIDTH - RIGHT)
    pad = max(0.15 * (max(highs) - min(lows)), 0.005)
    y_axis = _Axis(max(0.0, min(lows) - pad), min(1.0, max(highs) + pad), HEIGHT - BOTTOM, TOP)
    placed = [
        {
            "x": x_axis.at(size),
            "y": y_axis.at(entry["score"]["value"]),
            "low": y_axis.at(low),
            "high": y_axis.at(high),
            "label": entry["name"],
            "passed": entry["passed"],
        }
        for entry, size, low, high in zip(dots, sizes, lows, highs, strict=True)
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "dots": _spread_labels(placed),
        "x_ticks": [{"x": x_axis.at(tick), "label": f"{tick:g}"} for tick in x_axis.ticks(6)],
        "y_ticks": [{"y": y_axis.at(tick), "label": f"{100 * tick:g} %"} for tick in y_axis.ticks(5)],
    }


def _edge(score: Mapping[str, Any], name: str) -> float:
    return float(score["value"] if score[name] is None else score[name])


def _spread_labels(dots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels right of their dots, pushed down where two would lie on each other."""
    taken: list[tuple[float, float]] = []
    for dot in sorted(dots, key=lambda dot: (dot["x"], dot["y"])):
        y = dot["y"] + 4
        while any(abs(y - other) < 14 and abs(dot["x"] - x) < 100 for x, other in taken):
            y += 14
        taken.append((dot["x"], y))
        dot["label_y"] = round(y, 1)
        dot["end"] = dot["x"] > WIDTH - RIGHT - 90
    return dots
