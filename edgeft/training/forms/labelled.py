"""Texts with a label, for a classification head: input_ids and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.training.forms import columns, padded

if TYPE_CHECKING:
    import torch


class Labelled:
    """A batch is padded on the right, with the attention mask that the head finds the last token by."""

    def __init__(self, found: Mapping[str, list[Any]], pad_id: int) -> None:
        self.names, self.labels = found["id"], [int(label) for label in found["label"]]
        self._ids, self._pad = found["input_ids"], pad_id
        self.lengths = [len(row) for row in self._ids]

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        import numpy as np
        import torch

        rows = [i for sequence in sequences for i in sequence]
        found = [self._ids[i] for i in rows]
        return {
            "input_ids": torch.from_numpy(padded(found, self._pad)),
            "attention_mask": torch.from_numpy(padded([np.ones(len(row)) for row in found], 0)),
            "labels": torch.tensor([self.labels[i] for i in rows]),
        }

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        rows = [i for sequence in sequences for i in sequence]
        return sum(self.lengths[i] for i in rows), len(rows)


def read(path: Path, pad_id: int) -> Labelled:
    return Labelled(columns(path, ("input_ids",), ("label",)), pad_id)
