"""Whether the right choice has the highest log probability per byte, so that a long answer is not at a disadvantage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    """1.0 when the first choice of the highest log probability divided by its UTF-8 bytes is the expected one."""
    best = max(row["choices"], key=lambda choice: choice["logprob"] / max(1, choice["bytes"]))
    return float(best["text"] == row["expected"])
