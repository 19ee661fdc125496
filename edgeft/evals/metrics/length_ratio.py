"""How long answers are against what is expected: far above 1, a model rambles."""

from __future__ import annotations


def score(expected: str, answer: str) -> float:
    """Words of the answer for each word expected (an expected answer of none counts as one)."""
    return len(answer.split()) / max(1, len(expected.split()))
