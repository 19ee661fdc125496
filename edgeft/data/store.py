"""A dataset artifact's files: written by the `data` stage, read by training and by `edgeft data show`.

Layout (docs/architecture.md): {train,validation,test}.jsonl, {train,validation}.parquet, stats.json. Same rows, same
bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data.masks import IGNORED, Example

STATS = "stats.json"


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


def write(folder: Path, examples: Mapping[str, Sequence[Example]], stats: Mapping[str, Any]) -> None:
    """Write a dataset's files into `folder`. Splits without rows get no files."""
    for split, rows in examples.items():
        if not rows:
            continue
        files.write_jsonl(
            folder / f"{split}.jsonl",
            ({"id": example.row.id, "messages": list(example.row.messages)} for example in rows),
        )
        if split != "test":
            _write_parquet(folder / f"{split}.parquet", rows)
    files.write_json(folder / STATS, stats)


def _write_parquet(path: Path, rows: Sequence[Example]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = pa.list_(pa.int32())
    table = pa.table(
        {
            "id": pa.array([example.row.id for example in rows], pa.string()),
            "input_ids": pa.array([example.ids for example in rows], listed),
            "labels": pa.array([example.labels for example in rows], listed),
        }
    )
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 14)


def read_tokens(path: Path) -> Tokens:
    """The rows of a train.parquet or validation.parquet."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, memory_map=True).combine_chunks()
    columns: dict[str, list[Any]] = {}
    for name in ("input_ids", "labels"):
        rows = list(table.column(name).chunks)
        columns[name] = [row for chunk in rows for row in _arrays(chunk)]
    return Tokens(table.column("id").to_pylist(), columns["input_ids"], columns["labels"])


def _arrays(chunk: Any) -> Iterator[Any]:
    """The rows of an Arrow list array as numpy views."""
    values, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
    for start, stop in itertools.pairwise(offsets):
        yield values[start:stop]


def shown(tokens: Tokens, tokenizer: Any, *, start: int = 0, count: int = 3) -> list[dict[str, Any]]:
    """What `edgeft data show` prints: {"id", "tokens": [{"id", "text", "trained"}]} for some rows of a split.

    Texts are what each token adds to the decoded row, so that they join to the whole text.
    """
    rows = []
    for index in range(start, min(start + count, len(tokens))):
        ids, labels = tokens.ids[index].tolist(), tokens.labels[index].tolist()
        parts = texts_of(ids, tokenizer)
        rows.append(
            {
                "id": tokens.names[index],
                "tokens": [
                    {"id": token, "text": text, "trained": label != IGNORED}
                    for token, text, label in zip(ids, parts, labels, strict=True)
                ],
            }
        )
    return rows


def texts_of(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """The text of each token; a character cut into several tokens stands with its last one."""
    texts, start = [], 0
    for stop in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[start:stop], clean_up_tokenization_spaces=False)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and stop < len(ids):
            texts.append("")
            continue
        texts.append(text)
        start = stop
    return texts
