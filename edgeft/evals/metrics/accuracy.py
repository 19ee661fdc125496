"""Whether the chosen answer is the right one; of written answers, whether the label is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    """1.0 when the answer is the expected label, space around it aside. Of a choice, the answer is the choice with the
    highest log probability (the first of equals)."""
    return float(row["answer"].strip() == row["expected"].strip())
