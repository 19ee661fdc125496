"""Equal rows found by sorting are those that a table finds; splits keep them together and go by rank."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edgeft.data import decide
from edgeft.data.scan import Index, leaders, rank


def digests(values: list[int]) -> bytearray:
    return bytearray(b"".join(hashlib.sha256(str(value).encode()).digest()[:16] for value in values))


def test_leaders_are_the_first_equal_ones() -> None:
    random = np.random.default_rng(0)
    values = [int(value) for value in random.integers(0, 60, 500)]
    rows = random.permutation(500)[:300]
    seen: dict[int, int] = {}
    expected = [seen.setdefault(values[row], place) for place, row in enumerate(rows)]
    assert leaders(digests(values), rows).tolist() == expected
    assert leaders(digests(values), rows[:0]).tolist() == []


def test_half_of_a_digest_is_not_enough() -> None:
    """Digests that share their first or their last half are different ones."""
    parts = [b"a" * 8, b"b" * 8]
    keys = bytearray(b"".join(first + last for first in parts for last in parts))
    assert leaders(keys, np.arange(4)).tolist() == [0, 1, 2, 3]


def test_splits_go_by_rank_and_keep_equal_rows_together() -> None:
    values = [int(value) for value in np.random.default_rng(1).integers(0, 150, 200)]
    index = Index(Path("none"), [], [])
    index.keys, index.split = digests(values), bytearray(200)
    decide.split_off(index, validation=20, test=0.1, seed=7)
    by_rank = sorted(set(values), key=lambda value: rank(7, bytes(digests([value]))))
    expected: dict[int, int] = {}
    for split in (decide.TEST, decide.VALIDATION):
        count = 0
        while count < 20:
            value = by_rank.pop(0)
            expected[value] = split
            count += values.count(value)
    assert list(index.split) == [expected.get(value, decide.TRAIN) for value in values]
