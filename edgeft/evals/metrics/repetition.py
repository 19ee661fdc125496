"""How much an answer repeats itself: 1 - distinct-4 (Li et al. 2016), the share of repeated runs of four words."""

from __future__ import annotations

_WORDS = 4


def score(expected: str, answer: str) -> float:
    """0.0 when no run of four words stands twice in the answer (or it has no such run), near 1 for a loop."""
    words = answer.split()
    runs = [tuple(words[i : i + _WORDS]) for i in range(len(words) - _WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
