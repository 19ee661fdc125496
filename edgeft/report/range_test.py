"""The page of `edgeft lr-find`: one drawing, in the report's style."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.report import words
from edgeft.report.plots import GOOD, HELD, INK, QUIET, TUNED, Drawing, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def range_test(
    points: Sequence[Mapping[str, float]], suggestions: Mapping[str, float], rate: float | None
) -> Drawing | None:
    """The loss over the learning rate of `edgeft lr-find`: {"rate", "loss", "smoothed"} of each step, rates that it
    suggests by name, and the recipe's own; None when there are no two points to draw."""
    if len(points) < 2:
        return None
    rates = [point["rate"] for point in points]
    smooth = [point["smoothed"] for point in points]
    spread = max(smooth) - min(smooth) or 1.0

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        axes.plot(rates, [point["loss"] for point in points], color=QUIET, linewidth=0.7, alpha=0.6, label="each batch")
        axes.plot(rates, smooth, color=TUNED, label="smoothed")
        for (name, value), style in zip(suggestions.items(), ("-", (0, (5, 3))), strict=False):
            axes.axvline(value, color=GOOD, linestyle=style, linewidth=1.3, label=f"{name}: {value:.2g}")
        if rate is not None and rates[0] <= rate <= rates[-1]:
            axes.axvline(rate, color=HELD, linestyle=(0, (2, 2)), linewidth=1.3, label=f"the recipe's: {rate:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss",
                 ylim=(min(smooth) - 0.15 * spread, max(smooth) + 0.15 * spread))  # fmt: skip
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)

    told = ", ".join(f"{name} {value:.2g}" for name, value in suggestions.items()) or "no suggestion"
    return drawing("range-test", f"Loss over a rising learning rate: {told}.", draw, (3.6, 3.2))


def standalone(title: str, picture: Drawing) -> str:
    """A page of one drawing, in the report's style."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    name = html.escape(words.visible(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{css}</style></head>\n'
        f'<body><main><h1>{name}</h1>\n<figure class="drawing"><div class="wide">{picture.wide}</div>'
        f'<div class="narrow">{picture.narrow}</div><figcaption>{html.escape(picture.label)}</figcaption></figure>'
        "</main></body></html>\n"
    )
