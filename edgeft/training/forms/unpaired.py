"""Answers that are good or bad: prompt_ids, completion_ids, label. Each row also has a mismatched answer, that of the
row before it in the file: what `kto` estimates the divergence from the first model with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.training.forms import answered, columns

if TYPE_CHECKING:
    import torch


class Unpaired:
    """A batch has the answers first, then the mismatched ones. `reference`, when set, is float32[rows, 2]: the first
    model's log-likelihood of (the answer, the mismatched one)."""

    def __init__(self, found: Mapping[str, list[Any]], pad_id: int) -> None:
        self.names = found["id"]
        self._prompts, self._answers, self._labels = found["prompt_ids"], found["completion_ids"], found["label"]
        self._pad = pad_id
        self.reference: Any = None
        self.lengths = [len(prompt) + len(answer) for prompt, answer in zip(self._prompts, self._answers, strict=True)]

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        import torch

        rows = [i for sequence in sequences for i in sequence]
        prompts = [self._prompts[i] for i in rows]
        answers = [self._answers[i] for i in rows] + [self._answers[i - 1] for i in rows]
        found = answered([*prompts, *prompts], answers, self._pad)
        found["good"] = torch.tensor([bool(self._labels[i]) for i in rows])
        if self.reference is not None:
            found["reference"] = torch.from_numpy(self.reference[rows].T.reshape(-1).copy())
        return found

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        rows = [i for sequence in sequences for i in sequence]
        learnt = sum(len(self._answers[i]) for i in rows)
        return sum(len(self._prompts[i]) for i in rows) + learnt, learnt


def read(path: Path, pad_id: int) -> Unpaired:
    return Unpaired(columns(path, ("prompt_ids", "completion_ids"), ("label",)), pad_id)
