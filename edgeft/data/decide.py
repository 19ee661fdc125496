"""What becomes of each row once all have been read: samples, splits, duplicates, leakage, how often it counts.

Called by `edgeft.data.prepare`, on the index of `edgeft.data.scan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.data.faults import Fault, Tally
from edgeft.data.scan import DROPPED, SPLITS, Index, Reader, leaders, rank
from edgeft.errors import DataError, Location

TRAIN, VALIDATION, TEST = range(3)
_EXAMPLES = 5


def take_samples(index: Index, seed: int) -> dict[str, int]:
    """Leave out the rows that a sample (`PATH#500`) does not take; label -> how many were left out."""
    left: dict[str, int] = {}
    for number, entry in enumerate(index.entries):
        if entry.sample is None:
            continue
        rows = sorted((row for row in range(len(index)) if index.entry[row] == number), key=_order(index, seed))
        for row in rows[entry.sample :]:
            index.split[row] = DROPPED
        left[entry.label] = max(0, len(rows) - entry.sample)
    return left


def _order(index: Index, seed: int) -> Any:
    return lambda row: (rank(seed, index.key(row)), row)


def size_of(wanted: float, rows: int) -> int:
    """How many of `rows` a size means: a fraction below 1, else a count; at least one row."""
    return max(1, round(wanted * rows)) if wanted < 1 else round(wanted)


def split_off(index: Index, *, validation: float | None, test: float | None, seed: int) -> None:
    """Move training rows to test and validation. Which ones depends on their content and the seed only. Exact
    duplicates stay together, so a split may be a few rows larger than asked for. `DataError` when nothing would be left
    to train on."""
    if validation is None and test is None:
        return
    import numpy as np

    rows = index.rows_in(TRAIN)
    groups = leaders(index.keys, rows)
    firsts = np.unique(groups)
    ranks = np.fromiter((int.from_bytes(rank(seed, index.key(rows[at]))) for at in firsts), np.uint64, len(firsts))
    together = np.argsort(groups, kind="stable")
    order, taken = firsts[np.argsort(ranks, kind="stable")], 0
    begins, ends = (np.searchsorted(groups[together], order, side=side) for side in ("left", "right"))
    for split, wanted in ((TEST, test), (VALIDATION, validation)):
        needed = size_of(wanted, len(rows)) if wanted is not None else 0
        while needed > 0 and taken < len(order):
            group = rows[together[begins[taken] : ends[taken]]]
            taken += 1
            needed -= len(group)
            for row in group:
                index.split[row] = split
    if len(rows) and taken == len(order):
        raise DataError(
            f"val_set_size and test_set_size leave nothing of {len(rows)} rows to train on", do="make them smaller"
        )


def find_equals(index: Index, tally: Tally, reader: Reader) -> dict[str, Any]:
    """Exact duplicates within each split and training rows that are held-out rows too; told to `tally`, which decides
    what becomes of the training rows. The figures of stats.json."""
    import numpy as np

    rows = {split: index.rows_in(number) for number, split in enumerate(SPLITS)}
    duplicates = {
        split: int((leaders(index.keys, found) != np.arange(len(found))).sum()) for split, found in rows.items()
    }
    both = np.concatenate([rows["validation"], rows["test"], rows["train"]])
    held = len(both) - len(rows["train"])
    first = leaders(index.keys, both)
    for at in np.flatnonzero(first != np.arange(len(both))):
        row, other = int(both[at]), int(both[first[at]])
        if at < held:
            continue
        if first[at] < held:
            what = f"the row is a {SPLITS[index.split[other]]} row too"
            _tell(index, tally, reader, "leak", row, what, other)
        else:
            _tell(index, tally, reader, "duplicate", row, "the row is equal to an earlier one", other)
    leakage = {}
    for split in SPLITS[1:]:
        if len(rows[split]):
            same = rows[split][_known(index.keys, rows["train"], rows[split])]
            leakage[split] = {
                "rows": len(same),
                "questions": int(_known(index.questions, rows["train"], rows[split]).sum()),
                "examples": [reader.row(row).id for row in same[:_EXAMPLES]],
            }
    return {"duplicates": duplicates, "leakage": leakage}


def _known(digests: bytearray, train: Any, held: Any) -> Any:
    """bool: which of the rows `held` have the digest of one of `train`."""
    import numpy as np

    return leaders(digests, np.concatenate([train, held]))[len(train) :] < len(train)


def find_near(index: Index, tally: Tally, reader: Reader, threshold: float) -> dict[str, Any]:
    """As `find_equals`, for training rows that are nearly a held-out row or an earlier one."""
    figures = {"near_duplicates": 0, "near_leakage": 0}
    if index.signatures is None:
        return {}
    import numpy as np

    from edgeft.data.near import near_pairs

    signatures = index.signatures.array()
    held, train = np.concatenate([index.rows_in(VALIDATION), index.rows_in(TEST)]), index.rows_in(TRAIN)
    known = {index.key(row) for row in held}
    if tally.policy("near leak") != "skip" and len(held):
        for row, other in near_pairs(signatures, held, train, threshold, reader.text):
            if index.key(row) not in known:  # an exact leak has been told
                figures["near_leakage"] += 1
                split = SPLITS[index.split[other]]
                _tell(index, tally, reader, "near leak", row, f"the row is nearly a {split} row", other)
    train = _firsts(index)
    if tally.policy("near duplicate") != "skip":
        for row, other in near_pairs(signatures, train, train, threshold, reader.text):
            figures["near_duplicates"] += 1
            _tell(index, tally, reader, "near duplicate", row, "the row is nearly an earlier one", other)
    return figures


def _firsts(index: Index) -> Any:
    """The training rows without exact duplicates of earlier ones."""
    import numpy as np

    rows = index.rows_in(TRAIN)
    return rows[leaders(index.keys, rows) == np.arange(len(rows))]


def _tell(index: Index, tally: Tally, reader: Reader, kind: str, row: int, what: str, other: int) -> None:
    found = reader.row(row)
    fault = Fault(kind, Location(found.file, found.line), f"{what} ({reader.row(other).id})")
    if tally.add(fault) == "drop":
        index.split[row] = DROPPED


def repeats(index: Index, seed: int) -> Mapping[int, int]:
    """Training row -> how many times it counts, for the rows of entries with a weight: its whole part, and once more
    for the seeded share of rows that its fraction says."""
    found: dict[int, int] = {}
    for number, entry in enumerate(index.entries):
        if entry.weight == 1 or index.splits_of[number] != TRAIN:
            continue
        rows = [int(row) for row in index.rows_in(TRAIN) if index.entry[row] == number]
        whole = int(entry.weight)
        once_more = set(sorted(rows, key=_order(index, seed))[: round((entry.weight - whole) * len(rows))])
        found |= {row: whole + (row in once_more) for row in rows}
    return found
