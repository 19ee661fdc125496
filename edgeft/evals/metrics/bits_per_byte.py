"""Bits per UTF-8 byte of the expected text: what a compressor with this model would need, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    return corpus([row])


def corpus(rows: Sequence[Mapping[str, Any]]) -> float:
    """Over all bytes of the rows."""
    return float(sum(row["loss"] for row in rows) / max(1, sum(row["bytes"] for row in rows)) / math.log(2))
