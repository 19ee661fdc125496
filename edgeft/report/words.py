"""Numbers and texts as people read them, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.files import human_size

NONE = "–"
LOSS = "loss"
# Control characters become their pictures (U+2400...), so that hostile or broken output is seen and does nothing.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}


def visible(text: str) -> str:
    """A text with its control characters made visible; tabs and line breaks stay."""
    return text.translate(_PICTURES)


def figure(metric: str, value: float | None) -> str:
    """A share in percent, a loss in nats per token; what exceeds 1 is no share (a length, a perplexity): a number."""
    if value is None:
        return NONE
    if metric == LOSS:
        return f"{value:.3f}"
    return percent(value) if 0 <= value <= 1 else f"{value:.4g}"


def is_share(metric: str, *estimates: Mapping[str, Any] | None) -> bool:
    """Whether every value lies between 0 and 1, so that it reads as percent."""
    values = [estimate["value"] for estimate in estimates if estimate and estimate["value"] is not None]
    return metric != LOSS and all(0 <= value <= 1 for value in values)


def percent(value: float | None, digits: int = 1) -> str:
    """98.3 %; never rounded up to 100 %, which says "all of them"."""
    if value is None:
        return NONE
    shown = 100 * value
    if value < 1:
        highest = 100 - 10**-digits
        shown = min(shown, highest)
    return f"{shown:.0f} %" if shown in (0, 100) else f"{shown:.{digits}f} %"


def change(metric: str, value: float | None) -> str:
    """A signed difference: points for a score."""
    if value is None:
        return NONE
    if metric != LOSS and abs(value) <= 1:
        return f"{100 * value:+.1f} pt"
    return f"{value:+.3f}"


def small(value: float | None) -> str:
    """A small figure such as a divergence: 0.0031, 2.4e-07."""
    if value is None:
        return NONE
    return "0" if abs(value) < 1e-12 else f"{value:.2g}"


def rate(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    return NONE if value is None else human_size(value)


def interval(metric: str, estimate: Mapping[str, Any] | None) -> str:
    """ "92.1 to 97.0 %", or nothing when there is no interval."""
    if estimate is None or estimate.get("low") is None:
        return ""
    low, high = estimate["low"], estimate["high"]
    share = metric != LOSS and max(abs(low), abs(high)) <= 1
    factor, digits = (100, 1) if share else (1, 3)
    ends = [f"{round(factor * end, digits) + 0.0:.{digits}f}" for end in (low, high)]  # + 0.0: no "-0.0"
    return " to ".join(ends) + (" %" if share else "")


def count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"
