"""The page's drawings: losses over steps, forgetting, size against quality and speed, lengths of rows. Called by
`html`; see `drawing` for how they follow the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.report import words
from edgeft.report.drawing import (
    BAD,
    GOOD,
    HELD,
    INK,
    QUIET,
    SOFT,
    TUNED,
    Drawing,
    drawing,
    number,
    point,
    scaled,
    short,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 600  # of a line: a page is no place for every step of a long run


def loss_curve(points: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """Training and validation loss over steps, the steps after the lowest validation loss marked when it rose again;
    None when there are no two points to draw."""
    train, held = _series(points, "loss"), _series(points, "eval_loss")
    every = train + held
    if len({x for x, _ in every}) < 2:
        return None
    risen = overfitted(points)

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        if train:
            axes.plot(*zip(*train, strict=True), color=TUNED, label="training")
        if held:
            dots = "o" if len(held) <= 60 else None
            axes.plot(*zip(*held, strict=True), color=HELD, linestyle=(0, (5, 3)), marker=dots, markersize=4.5,
                      label="validation")  # fmt: skip
        if risen:
            axes.axvspan(risen["from"], risen["to"], color=BAD, alpha=0.12, linewidth=0, label="overfitting")
        scaled(axes, "y", [y for _, y in every])
        axes.set(xlabel="step", ylabel="loss, nats per token")
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)

    ends = [f"{name} ends at {side[-1][1]:.4f}" for name, side in (("training", train), ("validation", held)) if side]
    more = f"; validation loss rises from step {risen['from']:g}, overfitting" if risen else ""
    return drawing("curve", f"Loss over training steps: {', '.join(ends)}{more}.", draw, (2.9, 2.9))


def overfitted(points: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """{"from", "to" (steps), "rise" (nats per token), "lowest"} when the validation loss ends more than 1 % above its
    lowest; None otherwise."""
    held = [(float(p["step"]), float(p["eval_loss"])) for p in points if number(p.get("eval_loss"))]
    if len(held) < 2:
        return None
    lowest = min(range(len(held)), key=lambda i: held[i][1])
    rise = held[-1][1] - held[lowest][1]
    if rise <= 0.01 * abs(held[lowest][1]):
        return None
    return {"from": held[lowest][0], "to": held[-1][0], "rise": rise, "lowest": held[lowest][1]}


def forgetting(rows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """The paired change of each row of a before/after table ({"group", "suite", "metric", "change", "direction"}), with
    its interval, in points; losses are left to the table. None when there is nothing to draw."""
    shown = [row for row in rows if row["change"] and row["metric"] != words.LOSS]
    if not shown:
        return None
    several = len({row["metric"] for row in shown}) > 1
    names = [short(f"{row['group'] or row['suite']} {row['metric']}" if several else row["group"]) for row in shown]

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for place, row in enumerate(shown):
            change = row["change"]
            colour = {"better": GOOD, "worse": BAD}.get(row["direction"], QUIET)
            point(axes, change, place, colour, 100)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(shown)), names, color=INK)
        axes.invert_yaxis()
        axes.set_xlabel("change in points, paired, with 95 % interval")

    changes = [words.change(row["metric"], row["change"]["value"]) for row in shown]
    values = ", ".join(f"{name} {change}" for name, change in zip(names, changes, strict=True))
    height = 0.9 + 0.3 * len(shown)
    return drawing("forgetting", f"Change of each skill from base to tuned: {values}.", draw, (height, height))


def trade_off(
    entries: Sequence[Mapping[str, Any]], rates: Mapping[str, float | None], trained: Mapping[str, float | None]
) -> Drawing | None:
    """Every exported file in one row, the smallest first: size, score, distance from the trained model, tokens/s.

    entries  of `facts.exported`; rates: name -> tokens/s; trained: {"score", "rate"} of the trained model (a thin line)
    None with fewer than two files.
    """
    files = sorted((entry for entry in entries if entry["size"]), key=lambda entry: entry["size"])
    if len(files) < 2:
        return None
    names = [short(entry["name"]) for entry in files]
    panels = [panel for panel in _panels(files, rates, trained) if any(v is not None for v in panel.values)]

    def draw(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else len(panels)
        grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
        for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
            _draw_panel(axes, panel, [BAD if entry["passed"] is False else TUNED for entry in files])
            axes.set_yticks(range(len(files)), names if narrow or place == 0 else [], color=INK)

    said = "; ".join(
        f"{entry['name']} {words.size(entry['size'])}, {words.percent((entry['score'] or {}).get('value'))}, "
        f"{words.rate(rates.get(entry['name']))} tokens/s"
        for entry in files
    )
    tall = 1.0 + 0.26 * len(files)
    return drawing("trade-off", f"Files by size, quality and speed: {said}.", draw, (tall, len(panels) * (tall - 0.1)))


@dataclass(frozen=True)
class _Panel:
    title: str
    values: Sequence[float | None]
    bars: bool = False
    intervals: Sequence[Mapping[str, Any] | None] = ()
    line: float | None = None
    logarithmic: bool = False


def _panels(files: Sequence[Any], rates: Mapping[str, Any], trained: Mapping[str, Any]) -> list[_Panel]:
    metric = next((entry["score"]["metric"] for entry in files if entry["score"]), "score")
    scores = [entry["score"] for entry in files]
    shares = all(score is None or words.is_share(metric, score) for score in scores)
    factor = 100 if shares else 1
    scaled = [score and {key: _times(score[key], factor) for key in ("value", "low", "high")} for score in scores]
    return [
        _Panel("size, MB", [entry["size"] / 1e6 for entry in files], bars=True),
        _Panel(
            f"{short(metric)}{', %' if shares else ''}",
            [score and score["value"] for score in scaled],
            intervals=scaled,
            line=_times(trained.get("score"), factor),
        ),
        _Panel("mean KL (0: identical)", [(entry["all"] or {}).get("mean_kl") for entry in files], logarithmic=True),
        _Panel("tokens/s", [rates.get(entry["name"]) for entry in files], bars=True, line=trained.get("rate")),
    ]


def _draw_panel(axes: Axes, panel: _Panel, colours: Sequence[str]) -> None:
    for place, (value, colour) in enumerate(zip(panel.values, colours, strict=True)):
        if value is None:
            continue
        if panel.bars:
            axes.barh(place, value, color=colour, height=0.5)
        else:
            interval = panel.intervals[place] if panel.intervals else None
            point(axes, interval or {"value": value, "low": None, "high": None}, place, colour, 1)
    if panel.line is not None:
        axes.axvline(panel.line, color=HELD, linewidth=1.2, linestyle=(0, (3, 2)))
    if panel.logarithmic:
        scaled(axes, "x", [value for value in panel.values if value is not None])
    axes.set_ylim(len(panel.values) - 0.4, -0.6)
    axes.set_title(panel.title)
    axes.locator_params(axis="x", nbins=4) if axes.get_xscale() == "linear" else None
    axes.grid(False, axis="y")


def lengths(splits: Mapping[str, Mapping[str, Any]], sequence_len: int | None) -> Drawing | None:
    """Histogram of the training rows' lengths in tokens, with the longest that is trained on; None without one."""
    figures = (splits.get("train") or {}).get("length") or {}
    bins = figures.get("histogram") or []
    if not bins:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        widths = [entry["below"] - entry["from"] for entry in bins]
        axes.bar([entry["from"] for entry in bins], [entry["rows"] for entry in bins], widths, align="edge",
                 color=TUNED, edgecolor=SOFT, linewidth=0.8)  # fmt: skip
        if sequence_len and sequence_len < 1.5 * bins[-1]["below"]:
            axes.axvline(sequence_len, color=HELD, linestyle=(0, (5, 3)), label=f"sequence_len {sequence_len}")
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)
        axes.set(xlabel="tokens per training row", ylabel="rows")
        axes.grid(False, axis="x")

    told = ", ".join(f"{name} {figures[name]}" for name in ("min", "p50", "p90", "p99", "max") if name in figures)
    return drawing("lengths", f"Tokens per training row: {told}.", draw, (2.3, 2.4))


def _series(points: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the points that have one, thinned evenly to at most `MOST_POINTS` and the last."""
    found = [(float(point["step"]), float(point[key])) for point in points if number(point.get(key))]
    step = max(1, math.ceil(len(found) / MOST_POINTS))
    return found[::step] + ([found[-1]] if found and (len(found) - 1) % step else [])


def _times(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor
