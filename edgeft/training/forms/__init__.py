"""Rows as tensors: one file per form of a dataset's rows (`rows_form` in stats.json), a class each with `lengths`,
`names`, `batch` and `counts`. Used by `edgeft.training.run` through `edgeft.training.batches`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.registry import Row

if TYPE_CHECKING:
    import torch

FORMS: dict[str, Row] = {
    "language": Row("edgeft.training.forms.language:read", "tokens, and which of them are learnt", extra="train"),
    "preference": Row("edgeft.training.forms.preference:read", "a prompt, a better and a worse answer", extra="train"),
    "unpaired_preference": Row(
        "edgeft.training.forms.unpaired:read", "a prompt, an answer, whether it is good", extra="train"
    ),
    "prompts": Row("edgeft.training.forms.prompts:read", "a prompt and what answers are judged by", extra="train"),
    "classification": Row("edgeft.training.forms.labelled:read", "tokens and a label", extra="train"),
}


class Rows(Protocol):
    """All rows of a split."""

    names: list[str]
    lengths: list[int]  # tokens that a row gives the model

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        """Tensors of rows, one sequence per line (language rows: several rows may share one)."""
        ...

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        """(tokens, trained tokens) that they give the model, padding not counted."""
        ...


def read(form: str, path: Path, pad_id: int) -> Rows:
    """The rows of a train.parquet or validation.parquet."""
    rows: Rows = FORMS[form].load()(path, pad_id)
    return rows


def columns(path: Path, listed: Sequence[str], plain: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Columns of a Parquet file: `listed` ones as numpy int32 arrays, `plain` ones and `id` as Python values."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    found: dict[str, list[Any]] = {
        name: [np.asarray(row, np.int32) for row in table.column(name).to_pylist()] for name in listed
    }
    return found | {name: table.column(name).to_pylist() for name in ("id", *plain)}


def padded(rows: Sequence[Any], value: int, *, left: bool = False) -> Any:
    """int64[len(rows), longest] numpy array of rows, padded with `value` on the right or on the left."""
    import numpy as np

    width = max(len(row) for row in rows)
    table = np.full((len(rows), width), value, np.int64)
    for line, row in zip(table, rows, strict=True):
        start = width - len(row) if left else 0
        line[start : start + len(row)] = row
    return table


def answered(prompts: Sequence[Any], answers: Sequence[Any], pad_id: int) -> dict[str, torch.Tensor]:
    """Prompts with their answers behind them: input_ids int64[B, T] without the last token, `targets` (the token after
    each position of an answer, else -100) and `every_target` (after each position)."""
    import numpy as np
    import torch

    from edgeft.data.masks import IGNORED

    whole = [np.concatenate([prompt, answer]) for prompt, answer in zip(prompts, answers, strict=True)]
    after = [
        np.concatenate([np.full(len(prompt), IGNORED, np.int64), answer])[1:]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return {
        "input_ids": torch.from_numpy(padded([row[:-1] for row in whole], pad_id)),
        "targets": torch.from_numpy(padded(after, IGNORED)),
        "every_target": torch.from_numpy(padded([row[1:] for row in whole], IGNORED)),
    }
