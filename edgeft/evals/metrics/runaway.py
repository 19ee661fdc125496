"""Refusal to stop: the answer went on until the limit cut it off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    return float(not row["stopped"])
