"""Language rows: tokens with labels, several to a sequence when packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.data.masks import IGNORED
from edgeft.data.store import Tokens, read_tokens

if TYPE_CHECKING:
    import torch


class Language:
    """A row is cut behind its last trained token and shifted: inputs are its tokens but the last, targets the tokens
    that follow each. Rows are padded on the right without an attention mask: in a causal model no token sees what is
    behind it. Rows that share a sequence have positions of their own, which keeps them apart."""

    def __init__(self, tokens: Tokens, pad_id: int) -> None:
        self.names = tokens.names
        self._rows = [_shifted(ids, labels) for ids, labels in zip(tokens.ids, tokens.labels, strict=True)]
        self.lengths = [len(inputs) for inputs, _ in self._rows]
        self._pad = pad_id

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        import numpy as np
        import torch

        packed = any(len(sequence) > 1 for sequence in sequences)
        parts = [[self._rows[i] for i in sequence] for sequence in sequences]
        width = max(sum(len(inputs) for inputs, _ in part) for part in parts)
        ids = np.full((len(parts), width), self._pad, np.int64)
        targets = np.full((len(parts), width), IGNORED, np.int64)
        positions = np.zeros((len(parts), width), np.int64)  # padding: each a row of its own
        for line, part in enumerate(parts):
            at = 0
            for inputs, wanted in part:
                ids[line, at : at + len(inputs)] = inputs
                targets[line, at : at + len(inputs)] = wanted
                positions[line, at : at + len(inputs)] = np.arange(len(inputs))
                at += len(inputs)
        found = {"input_ids": ids, "targets": targets} | ({"position_ids": positions} if packed else {})
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        rows = [self._rows[i] for sequence in sequences for i in sequence]
        return sum(len(inputs) for inputs, _ in rows), sum(int((wanted != IGNORED).sum()) for _, wanted in rows)


def read(path: Path, pad_id: int) -> Language:
    return Language(read_tokens(path), pad_id)


def _shifted(ids: Any, labels: Any) -> tuple[Any, Any]:
    import numpy as np

    stop = int(np.flatnonzero(labels != IGNORED)[-1]) + 1
    return ids[: stop - 1], labels[1:stop]
