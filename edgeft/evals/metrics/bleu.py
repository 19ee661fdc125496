"""BLEU (Papineni et al. 2002) as sacrebleu computes it with its defaults, from 0 to 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def score(expected: str, answer: str) -> float:
    """Of one row; the suite's figure is no mean of these."""
    import sacrebleu

    return float(sacrebleu.sentence_bleu(answer, [expected]).score)


def corpus(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of a whole suite."""
    import sacrebleu

    answers, expected = [row["answer"] for row in rows], [row["expected"] for row in rows]
    return float(sacrebleu.corpus_bleu(answers, [expected]).score)
