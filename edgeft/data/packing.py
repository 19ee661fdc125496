"""Several rows in one sequence: which rows go together. Used by `edgeft.training` and by the statistics.

Rows never see each other: position ids restart with each row, and without an attention mask transformers keeps the
rows of one sequence apart (a test compares packed with separate losses).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int, *, as_given: bool = False) -> list[list[int]]:
    """Indices of rows by sequence: each row into the fullest sequence it still fits, the longest first (best fit
    decreasing) or, with `as_given`, in the order given: rows of one sequence are then not of like length.

    No row is split; a row longer than `capacity` is a ValueError. O(n log n); the same lengths give the same sequences.
    """
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (free tokens, sequence), ascending
    order = range(len(lengths)) if as_given else sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for index in order:
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"row {index} has {length} tokens, more than {capacity}")
        at = _first_at_least(free, length)
        if at == len(free):
            bins.append([index])
            insort(free, (capacity - length, len(bins) - 1))
        else:
            room, sequence = free.pop(at)
            bins[sequence].append(index)
            insort(free, (room - length, sequence))
    return bins


def _first_at_least(free: list[tuple[int, int]], length: int) -> int:
    low, high = 0, len(free)
    while low < high:
        middle = (low + high) // 2
        if free[middle][0] < length:
            low = middle + 1
        else:
            high = middle
    return low
