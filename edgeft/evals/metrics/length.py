"""How long answers are."""

from __future__ import annotations


def score(expected: str, answer: str) -> float:
    """Words of the answer."""
    return float(len(answer.split()))
