"""Rows that say nearly the same, found by MinHash. Called by `edgeft.data.scan`.

A row is the set of its sequences of three words; two rows are near when their sets' Jaccard similarity reaches the
threshold. Signatures (datasketch) are compared in bands (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4)
by sorting, which holds no table of buckets; what they propose is confirmed on the sets themselves, so no pair is
reported that is not one, and few are missed (`ROWS_PER_BAND` keeps that below 1 % at the threshold).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 64
MISSED = 0.01  # share of pairs at the threshold that no band may propose
_SHINGLE = 3
_COMPARED = 1 << 16  # pairs at a time
# Words, single characters of scripts without spaces, and signs.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+|[^\w\s]")


def shingles(text: str) -> frozenset[str]:
    """The set of a text's sequences of three words, case left out; of a shorter text itself."""
    words = _WORD.findall(text.lower())
    if len(words) <= _SHINGLE:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[at : at + _SHINGLE]) for at in range(len(words) - _SHINGLE + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """The share of sequences that two texts have in common."""
    return len(first & second) / len(first | second)


class Signatures:
    """MinHash signatures of rows, in the order they are added: 4 * `PERMUTATIONS` bytes each."""

    def __init__(self) -> None:
        from datasketch import MinHash

        self._empty, self._values = MinHash(PERMUTATIONS, hashfunc=_hash), bytearray()

    def add(self, text: str) -> None:
        import numpy as np

        found = self._empty.copy()  # the permutations are made once
        found.update_batch([piece.encode() for piece in shingles(text)])
        self._values += found.hashvalues.astype(np.uint32).tobytes()

    def array(self) -> np.ndarray[Any, Any]:
        """uint32[rows, PERMUTATIONS]."""
        import numpy as np

        return np.frombuffer(self._values, np.uint32).reshape(-1, PERMUTATIONS)


def _hash(data: bytes) -> int:
    return zlib.crc32(data)


def rows_per_band(threshold: float) -> int:
    """How many values a band holds: as many as still propose all but `MISSED` of the pairs at the threshold."""
    fitting = [r for r in range(1, 17) if (1 - threshold**r) ** (PERMUTATIONS // r) <= MISSED]
    return max(fitting, default=1)


def near_pairs(
    signatures: np.ndarray[Any, Any],
    first: Sequence[int] | np.ndarray[Any, Any],
    others: Sequence[int] | np.ndarray[Any, Any],
    threshold: float,
    text_of: Callable[[int], str],
) -> Iterator[tuple[int, int]]:
    """(row of `others`, the row it is near to) for each that is near one of `first`, or, when both are the same rows,
    near an earlier one; each row at most once, ascending.

    text_of   the text of a row, read again to confirm what the signatures propose
    """
    import numpy as np

    first, others = np.asarray(first, np.int64), np.asarray(others, np.int64)
    same = len(first) == len(others) and bool((first == others).all())
    rows = first if same else np.concatenate([first, others])
    if len(rows) < 2:
        return
    if threshold >= 1:
        threshold = 1.0
    pairs = _proposed(signatures, rows, len(first) if not same else None, rows_per_band(threshold))
    found: dict[int, int] = {}
    for member, leader in _likely(signatures, rows, pairs, threshold):
        row, other = int(rows[member]), int(rows[leader])
        if row in found or (same and other in found):
            continue
        if jaccard(shingles(text_of(row)), shingles(text_of(other))) >= threshold:
            found[row] = other
    yield from sorted(found.items())


def _likely(
    signatures: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], pairs: np.ndarray[Any, Any], threshold: float
) -> Iterator[tuple[int, int]]:
    """The pairs whose signatures agree in about as many values as the threshold asks for; compared a part at a time."""
    for start in range(0, len(pairs), _COMPARED):
        part = pairs[start : start + _COMPARED]
        equal = (signatures[rows[part[:, 0]]] == signatures[rows[part[:, 1]]]).mean(axis=1)
        for member, leader in part[equal >= threshold - 0.2]:
            yield int(member), int(leader)


def _proposed(
    signatures: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], leaders: int | None, size: int
) -> np.ndarray[Any, Any]:
    """int64[n, 2]: (member, leader), places among `rows` that share a band, sorted; each member with the band's first
    row (with `leaders`: the first of the first so many) and, among equals, with the one before it."""
    import numpy as np

    found = []
    for start in range(0, PERMUTATIONS - size + 1, size):
        band = np.ascontiguousarray(signatures[rows, start : start + size]).view([("", np.uint32)] * size).ravel()
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        heads = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        inside = ~begins
        if leaders is None:
            previous = np.roll(order, 1)
            found += [np.stack([order[inside], heads[inside]], 1), np.stack([order[inside], previous[inside]], 1)]
        else:
            fits = inside & (heads < leaders) & (order >= leaders)
            found.append(np.stack([order[fits], heads[fits]], 1))
    pairs = np.concatenate(found)
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)
