"""How the page's drawings are made, by matplotlib: SVG that stands inside the page and follows its colours.

Each drawing exists twice, laid out for a wide and for a narrow page; the style sheet shows one of them. Colours are
placeholders that become the page's CSS variables, so that dark mode and print need no second picture; text stays text
(selectable, in the page's own font); ids are salted and metadata left out, so the same figures give the same bytes.
What stands inside table cells (an interval on a line) is two boxes of HTML instead, see `charts`: dozens of pictures
would neither scale with the table nor be cheap. Called by `plots`.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.report import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that no drawing has by chance -> what they become.
INK, QUIET, LINE, TUNED, HELD, GOOD, BAD, SOFT = (f"#0a{index:02x}f3" for index in range(8))
_VARIABLES = {
    INK: "--ink", QUIET: "--quiet", LINE: "--line", TUNED: "--tuned", HELD: "--held", GOOD: "--good", BAD: "--bad",
    SOFT: "--soft",
}  # fmt: skip
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "lines.linewidth": 1.7,
}
WIDE, NARROW = 9.0, 4.2  # inches; a page of 1,000 px and a phone's show about the same size of letters
_LOG_FROM = 20  # largest by smallest value of an axis that is drawn in powers of ten
_NAME = 26  # characters of a name beside a drawing
Draw = Callable[["Figure", bool], None]


@dataclass(frozen=True)
class Drawing:
    """Two pictures of the same figures as SVG elements. `label` says in words what they show."""

    wide: str
    narrow: str
    label: str


def drawing(name: str, label: str, draw: Draw, heights: tuple[float, float]) -> Drawing:
    """Draw into a wide and a narrow figure. `name`: of this drawing on the page; `heights`: of both, in inches."""
    label = words.visible(label)
    return Drawing(
        _svg(f"{name}-wide", label, draw, WIDE, heights[0], False),
        _svg(f"{name}-narrow", label, draw, NARROW, heights[1], True),
        label,
    )


def _svg(salt: str, label: str, draw: Draw, width: float, height: float, narrow: bool) -> str:
    import matplotlib
    from matplotlib import style
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with warnings.catch_warnings(), style.context("default"):
        warnings.simplefilter("ignore")  # a glyph that the measuring font lacks: the reader's font has it or not
        with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
            figure = Figure(figsize=(width, height), layout="constrained")
            draw(figure, narrow)
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(buffer.getvalue(), label)


def _for_page(text: str, label: str) -> str:
    """A whole SVG file as an element of an HTML page: without prologue, metadata, style sheet and idle ids."""
    view = re.search(r'<svg[^>]*viewBox="([^"]+)"', text)
    assert view is not None, "matplotlib writes a viewBox"
    body = text[text.index(">", view.end()) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"\s*\n\s*", "\n", body).replace("<defs>\n</defs>", "").strip()
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(label)}">{body}</svg>'


def point(axes: Axes, estimate: Mapping[str, Any], place: int, colour: str, factor: float) -> None:
    """A value with its interval on a line."""
    value = float(estimate["value"]) * factor
    if estimate.get("low") is not None and estimate.get("high") is not None:
        span = [float(estimate["low"]) * factor, float(estimate["high"]) * factor]
        axes.plot(span, [place, place], color=colour, linewidth=3, alpha=0.5, solid_capstyle="round")
    axes.plot([value], [place], color=colour, marker="o", markersize=6)


def scaled(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Powers of ten where linear would show a line along the axis; else from zero."""
    from matplotlib.ticker import FuncFormatter

    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and values and max(values) / min(values) > _LOG_FROM:
        axes.set(**{f"{which}scale": "log"})
        axis = axes.yaxis if which == "y" else axes.xaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
    elif values and min(values) >= 0:
        axes.set(**{f"{which}lim": (0, 1.06 * max(values) or 1)})


def number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def short(name: str) -> str:
    name = words.visible(name)
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
