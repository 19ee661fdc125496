"""Overlap of words between answer and expected answer, as SQuAD 1.1 defines F1 (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def score(expected: str, answer: str) -> float:
    """F1 of the bags of words after lower-casing and leaving out ASCII punctuation and articles; two texts without
    any word are equal."""
    wanted, given = words(expected), words(answer)
    if not wanted or not given:
        return float(wanted == given)
    common = sum((Counter(wanted) & Counter(given)).values())
    return 2 * common / (len(wanted) + len(given))


def words(text: str) -> list[str]:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return _ARTICLES.sub(" ", kept).split()
