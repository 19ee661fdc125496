"""Whether the better of two answers is preferred: by a reward model's values, or by a language model's likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    """1.0 when the better answer, which stands first, is valued higher than the other; equal ones are no preference."""
    good, bad = row["choices"]
    value = "logprob" if good.get("reward") is None else "reward"
    return float(good[value] > bad[value])
