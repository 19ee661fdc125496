"""ROUGE (Lin 2004) as the package rouge-score computes it, without stemming: the F-measure, per row."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind])


def _score(kind: str, expected: str, answer: str) -> float:
    return float(_scorer(kind).score(expected, answer)[kind].fmeasure)


def rouge1(expected: str, answer: str) -> float:
    return _score("rouge1", expected, answer)


def rouge2(expected: str, answer: str) -> float:
    return _score("rouge2", expected, answer)


def rouge_l(expected: str, answer: str) -> float:
    return _score("rougeL", expected, answer)
