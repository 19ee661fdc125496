"""One pass over all files of a dataset: every row checked, spooled to disk in one form, and remembered by a few bytes.
Called by `edgeft.data.prepare`.

What needs all rows (samples, splits, duplicates, leakage) is then decided on those bytes; the rows themselves are read
again from the spool when they are rendered. Memory: about 330 bytes a row, 70 without the search for near duplicates.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft import files
from edgeft.data import forms
from edgeft.data.faults import Tally
from edgeft.data.rows import Entry, Reading, Row, read, short_names
from edgeft.errors import EdgeftError
from edgeft.progress import Listener, Progress

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation", "test")
DROPPED = 255
_SAY_EVERY = 2000
_DIGEST = 16  # bytes


@dataclass
class Index:
    """What is remembered of each row, in the order of the spool."""

    spool: Path
    entries: Sequence[Entry]
    splits_of: Sequence[int]  # by entry
    entry: array[int] = field(default_factory=lambda: array("H"))
    split: bytearray = field(default_factory=bytearray)
    offset: array[int] = field(default_factory=lambda: array("Q"))
    keys: bytearray = field(default_factory=bytearray)
    questions: bytearray = field(default_factory=bytearray)
    signatures: Any = None
    forms: dict[str, str] = field(default_factory=dict)  # entry's label -> form, and whether it was found out
    guessed: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entry)

    def key(self, row: int) -> bytes:
        return bytes(self.keys[row * _DIGEST : (row + 1) * _DIGEST])

    def question(self, row: int) -> bytes:
        return bytes(self.questions[row * _DIGEST : (row + 1) * _DIGEST])

    def rows_in(self, split: int) -> np.ndarray[Any, Any]:
        """int64: the rows of a split, ascending."""
        import numpy as np

        return np.flatnonzero(np.frombuffer(bytes(self.split), np.uint8) == split)

    def read(self) -> Iterator[Row]:
        """All rows of the spool, one by one."""
        with self.spool.open("rb") as stream:
            for line in stream:
                yield _row(line)


class Reader:
    """Rows of a spool by number; the file stays open."""

    def __init__(self, index: Index) -> None:
        self._offsets, self._stream = index.offset, index.spool.open("rb")

    def row(self, number: int) -> Row:
        self._stream.seek(self._offsets[number])
        return _row(self._stream.readline())

    def text(self, number: int) -> str:
        return forms.text_of(self.row(number).value)

    def close(self) -> None:
        self._stream.close()


def _row(line: bytes) -> Row:
    found = json.loads(line)
    return Row(found["id"], found["file"], found["line"], found["value"])


def scan(
    groups: dict[str, Sequence[Entry]], objective: str, tally: Tally, spool: Path, *, near: bool, listen: Listener
) -> Index:
    """Read every entry of every split into `spool`."""
    entries = [(entry, split) for split, listed in groups.items() for entry in listed]
    names = short_names(label for entry, _ in entries for label in _labels(entry))
    index = Index(spool, [entry for entry, _ in entries], [SPLITS.index(split) for _, split in entries])
    if near:
        from edgeft.data.near import Signatures

        index.signatures = Signatures()
    with spool.open("wb") as stream:
        for number, (entry, split) in enumerate(entries):
            reading = Reading(objective)
            for row in read(entry, tally, reading, names):
                _remember(index, row, number, SPLITS.index(split), stream)
                if len(index) % _SAY_EVERY == 0:
                    listen(Progress(len(index), None, "row", "reading"))
            if reading.form:
                index.forms[entry.label] = reading.form
                if entry.form is None and entry.label not in index.guessed:
                    index.guessed.append(entry.label)
    return index


def _labels(entry: Entry) -> list[str]:
    try:
        return [label for label, _ in entry.files()]
    except EdgeftError:  # told by `read`
        return [entry.label]


def _remember(index: Index, row: Row, entry: int, split: int, stream: Any) -> None:
    index.offset.append(stream.tell())
    kept = {"id": row.id, "file": row.file, "line": row.line, "value": row.value}
    stream.write(json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    index.entry.append(entry)
    index.split.append(split)
    index.keys += _digest(row.value)
    index.questions += _digest(forms.asked(row.value))
    if index.signatures is not None:
        index.signatures.add(forms.text_of(row.value))


def _digest(value: Any) -> bytes:
    return hashlib.sha256(files.canonical_json(value).encode()).digest()[:_DIGEST]


def leaders(digests: bytearray, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int64: for each of `rows` the place among them of the first with the same digest (its own, for most). By sorting:
    a table of all digests would take ten times the memory of what it is made of."""
    import numpy as np

    halves = np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2)[rows]
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal ones in the order of `rows`
    ordered = halves[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    found = np.empty(len(order), np.int64)
    found[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    return found


def rank(seed: int, key: bytes) -> bytes:
    """A row's place in the order that decides samples and splits: of its content and the seed alone."""
    return hashlib.sha256(f"{seed}:".encode() + key).digest()[:8]
