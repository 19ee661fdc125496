"""e to the nats per token of the expected text: for comparing models with the same tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_MOST = 700.0  # e to that is near the end of float64; JSON has no infinity


def score(row: Mapping[str, Any]) -> float:
    return corpus([row])


def corpus(rows: Sequence[Mapping[str, Any]]) -> float:
    """Over all tokens of the rows, not a mean of the rows' perplexities."""
    return math.exp(min(_MOST, sum(row["loss"] for row in rows) / max(1, sum(row["tokens"] for row in rows))))
