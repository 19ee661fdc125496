"""Whether the model ended its answer itself, by a stop token or a stop text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    return float(row["stopped"])
