"""The mean of the F1 of each label, so that rare labels count as much as frequent ones; as scikit-learn computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def score(row: Mapping[str, Any]) -> float:
    """Of one row: whether its label is right. The suite's figure is no mean of these."""
    return float(row["answer"].strip() == row["expected"].strip())


def corpus(rows: Sequence[Mapping[str, Any]]) -> float:
    """Over the labels that are expected somewhere in the rows; an answer that is no label is just wrong."""
    from sklearn.metrics import f1_score

    wanted = [row["expected"].strip() for row in rows]
    given = [row["answer"].strip() for row in rows]
    return float(f1_score(wanted, given, labels=sorted(set(wanted)), average="macro", zero_division=0.0))
