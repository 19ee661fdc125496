"""Prompts for `grpo`: prompt_ids, the prompt's messages and the reference that rewards compare answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.training.forms import columns, padded

if TYPE_CHECKING:
    import torch


class Prompts:
    """A batch is the prompts, padded on the left, and the numbers of their rows."""

    def __init__(self, found: Mapping[str, list[Any]], pad_id: int) -> None:
        self.names = found["id"]
        self._ids, self._pad = found["prompt_ids"], pad_id
        self.prompts = [json.loads(text) for text in found["prompt"]]
        self.references = [json.loads(text) if text is not None else None for text in found["reference"]]
        self.lengths = [len(row) for row in self._ids]

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        import numpy as np
        import torch

        rows = [i for sequence in sequences for i in sequence]
        found = [self._ids[i] for i in rows]
        return {
            "prompt_ids": torch.from_numpy(padded(found, self._pad, left=True)),
            "prompt_mask": torch.from_numpy(padded([np.ones(len(row)) for row in found], 0, left=True)),
            "rows": torch.tensor(rows),
        }

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        return sum(self.lengths[i] for sequence in sequences for i in sequence), 0


def read(path: Path, pad_id: int) -> Prompts:
    return Prompts(columns(path, ("prompt_ids",), ("prompt", "reference")), pad_id)
