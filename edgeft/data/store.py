"""A dataset artifact's files: written by the `data` stage, read by training and by `edgeft data show`.

Layout (docs/architecture.md): {train,validation,test}.jsonl, {train,validation}.parquet, stats.json, and labels.json of
a classification. Same rows, same bytes. Rows are written as they come: no split is held.
"""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft.data import forms
from edgeft.data.encode import Encoded
from edgeft.data.rows import Row

STATS, LABELS = "stats.json", "labels.json"
_GROUP, _TOKENS = 1 << 14, 1 << 23  # of a row group of a Parquet file: rows, and tokens of all columns, at most
# Rows form -> columns besides `id`; "ids" is list<int32>.
COLUMNS: dict[str, dict[str, str]] = {
    "language": {"input_ids": "ids", "labels": "ids"},
    "preference": {"prompt_ids": "ids", "chosen_ids": "ids", "rejected_ids": "ids"},
    "unpaired_preference": {"prompt_ids": "ids", "completion_ids": "ids", "label": "bool"},
    "prompts": {"prompt_ids": "ids", "prompt": "text", "reference": "text"},
    "classification": {"input_ids": "ids", "label": "int32"},
}


@dataclass(frozen=True)
class Tokens:
    """Tokenized rows: `ids[i]` and `labels[i]` are int32 arrays of the same length; `names[i]` is the row's id."""

    names: list[str]
    ids: list[Any]
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.ids]


class Writer:
    """Writes one split: rows to NAME.jsonl, and, with `rows_form`, what they became to NAME.parquet. Files appear with
    the first row."""

    def __init__(self, folder: Path, split: str, rows_form: str | None) -> None:
        self._folder, self._split, self._form = folder, split, rows_form
        self._held: list[Encoded] = []
        self._tokens = 0
        self._text: Any = None
        self._table: Any = None

    def row(self, row: Row, *, asked: bool) -> None:
        """A row as it was read; when models are `asked` it, also as a conversation with its answer."""
        if self._text is None:
            self._text = (self._folder / f"{self._split}.jsonl").open("w", encoding="utf-8", newline="\n")
        found = {"id": row.id, **row.value}
        if asked and "messages" not in found:
            turns = forms.answered(row.value)
            found |= {"messages": turns} if turns else {}
        self._text.write(json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")

    def encoded(self, encoded: Encoded) -> None:
        """What a row became; held with four bytes a token until a group of rows is full."""
        if self._form is None:
            return
        lists = [name for name, kind in COLUMNS[self._form].items() if kind == "ids"]
        packed = {name: array("i", encoded.columns[name]) for name in lists}
        self._held.append(replace(encoded, columns={**encoded.columns, **packed}))
        self._tokens += sum(len(ids) for ids in packed.values())
        if len(self._held) >= _GROUP or self._tokens >= _TOKENS:
            self._flush()

    def close(self) -> None:
        if self._text is not None:
            self._text.close()
        if self._held:
            self._flush()
        if self._table is not None:
            self._table.close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self._form is not None
        types = {"ids": pa.list_(pa.int32()), "bool": pa.bool_(), "text": pa.string(), "int32": pa.int32()}
        columns = {"id": pa.array([one.id for one in self._held], pa.string())}
        for name, kind in COLUMNS[self._form].items():
            found = [one.columns[name] for one in self._held]
            columns[name] = _lists(found) if kind == "ids" else pa.array(found, types[kind])
        table = pa.table(columns)
        if self._table is None:
            self._table = pq.ParquetWriter(self._folder / f"{self._split}.parquet", table.schema, compression="zstd")
        self._table.write_table(table, row_group_size=_GROUP)
        self._held.clear()
        self._tokens = 0


def _lists(rows: list[array[int]]) -> Any:
    """An Arrow array list<int32> of rows of ids, without a Python number for each."""
    import numpy as np
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate([np.frombuffer(row, np.int32) for row in rows])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def read_tokens(path: Path) -> Tokens:
    """The rows of a train.parquet or validation.parquet of language rows."""
    columns = read_columns(path)
    return Tokens(columns["id"], columns["input_ids"], columns["labels"])


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Every column of a parquet file of any rows form: lists of ids as int32 arrays, the others as Python values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, memory_map=True).combine_chunks()
    found: dict[str, list[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        is_list = pa.types.is_list(column.type)
        found[name] = [row for chunk in column.chunks for row in _arrays(chunk)] if is_list else column.to_pylist()
    return found


def _arrays(chunk: Any) -> Iterator[Any]:
    """The rows of an Arrow list array as numpy views."""
    values, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
    for start, stop in itertools.pairwise(offsets):
        yield values[start:stop]


def rows_at(path: Path, start: int, count: int) -> list[dict[str, Any]]:
    """Some rows of a parquet file as Python values; only the row groups that hold them are read."""
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as table:
        begin = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            first, last = max(start, begin), min(start + count, begin + rows)
            if first < last:
                found += table.read_row_group(group).slice(first - begin, last - first).to_pylist()
            begin += rows
    return found
