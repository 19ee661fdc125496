"""Exact match. Space around an answer does not count: many chat templates trim it, so no model could be taught it."""

from __future__ import annotations


def score(expected: str, answer: str) -> float:
    """1.0 when the answer is the expected one, character by character, else 0.0."""
    return float(expected.strip() == answer.strip())
