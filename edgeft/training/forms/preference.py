"""Preferences: prompt_ids with chosen_ids and rejected_ids. A batch has the chosen answers first, then the rejected
ones in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.training.forms import answered, columns

if TYPE_CHECKING:
    import torch


class Pairs:
    """`reference`, when set, is float32[rows, 2]: the first model's log-likelihood of (chosen, rejected)."""

    def __init__(self, found: Mapping[str, list[Any]], pad_id: int) -> None:
        self.names = found["id"]
        self._prompts, self._chosen, self._rejected = found["prompt_ids"], found["chosen_ids"], found["rejected_ids"]
        self._pad = pad_id
        self.reference: Any = None
        self.lengths = [
            len(prompt) + max(len(chosen), len(rejected))
            for prompt, chosen, rejected in zip(self._prompts, self._chosen, self._rejected, strict=True)
        ]

    def batch(self, sequences: Sequence[tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
        import torch

        rows = [i for sequence in sequences for i in sequence]
        prompts = [self._prompts[i] for i in rows]
        answers = [self._chosen[i] for i in rows] + [self._rejected[i] for i in rows]
        found = answered([*prompts, *prompts], answers, self._pad)
        if self.reference is not None:
            found["reference"] = torch.from_numpy(self.reference[rows].T.reshape(-1).copy())
        return found

    def counts(self, sequences: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        rows = [i for sequence in sequences for i in sequence]
        learnt = sum(len(self._chosen[i]) + len(self._rejected[i]) for i in rows)
        return sum(2 * len(self._prompts[i]) for i in rows) + learnt, learnt


def read(path: Path, pad_id: int) -> Pairs:
    return Pairs(columns(path, ("prompt_ids", "chosen_ids", "rejected_ids")), pad_id)
