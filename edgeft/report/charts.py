"""An interval on a line inside a table cell, in percent of the cell's width: two boxes that `page.html` places. The
page's drawings are made by `plots`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
