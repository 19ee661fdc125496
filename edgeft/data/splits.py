"""Train, validation and test: given as files, or split off the training rows by content, so that order does not matter.

Used by the `data` stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edgeft import files
from edgeft.data.rows import Row
from edgeft.errors import DataError

SPLITS = ("train", "validation", "test")


def size_of(wanted: float, rows: int) -> int:
    """How many of `rows` a size means: a fraction below 1, else a count; at least one row."""
    return max(1, round(wanted * rows)) if wanted < 1 else round(wanted)


def split_off(rows: Sequence[Row], *, validation: float | None, test: float | None, seed: int) -> dict[str, list[Row]]:
    """`rows` divided into train, validation and test; the rows of each keep their order.

    Which rows go where depends on their content and the seed only. Exact duplicates stay together, so a split may be a
    few rows larger than asked for. `DataError` when nothing would be left to train on.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    order = sorted(groups, key=lambda key: files.digest_text(f"{seed}:{key}"))
    chosen: dict[str, str] = {}
    for split, wanted in (("test", test), ("validation", validation)):
        if wanted is None:
            continue
        needed = size_of(wanted, len(rows))
        while needed > 0 and order:
            key = order.pop(0)
            chosen[key] = split
            needed -= len(groups[key])
    if not order:
        raise DataError(
            f"val_set_size and test_set_size leave nothing of {len(rows)} rows to train on", do="make them smaller"
        )
    divided: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in rows:
        divided[chosen.get(row.key, "train")].append(row)
    return divided


def overlaps(splits: Mapping[str, Sequence[Row]]) -> dict[str, object]:
    """Exact duplicates within each split, and leakage: rows of validation and test that training sees too.

    `rows` counts rows that are equal to a training row, `questions` those whose turns before the last are.
    """
    seen = {row.key for row in splits["train"]}
    asked = {row.question for row in splits["train"]}
    duplicates, leakage = {}, {}
    for split, rows in splits.items():
        counts = Counter(row.key for row in rows)
        duplicates[split] = sum(count - 1 for count in counts.values())
        if split != "train" and rows:
            same = [row for row in rows if row.key in seen]
            leakage[split] = {
                "rows": len(same),
                "questions": sum(row.question in asked for row in rows),
                "examples": [row.id for row in same[:5]],
            }
    return {"duplicates": duplicates, "leakage": leakage}
