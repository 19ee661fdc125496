"""Match after normalising: for answers in prose, where case, punctuation and spacing are not what is asked."""

from __future__ import annotations

import unicodedata


def score(expected: str, answer: str) -> float:
    """1.0 when both are equal after `normalise`, else 0.0."""
    return float(normalise(expected) == normalise(answer))


def normalise(text: str) -> str:
    """NFKC, casefolded, punctuation (Unicode category P) removed, runs of white space made one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character for character in folded if not unicodedata.category(character).startswith("P"))
    return " ".join(kept.split())
