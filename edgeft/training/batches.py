"""Which rows go through the model together, and in what order: decided once, before the first step, from the seed
alone.

The order owes nothing to the state of a random generator, so a resumed run goes on with the very batches that were
left. Used by `edgeft.training.run`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.data.masks import IGNORED
from edgeft.data.packing import pack
from edgeft.data.store import Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

_POOL = 50  # micro-batches whose rows are sorted by length together: little padding, still well mixed

Sequence_ = tuple[int, ...]  # rows that share one sequence
MicroBatch = tuple[Sequence_, ...]


@dataclass(frozen=True)
class Plan:
    """All micro-batches of a run, in order. `epoch_ends` counts micro-batches."""

    batches: tuple[MicroBatch, ...]
    accumulation: int
    epoch_ends: tuple[int, ...]

    @property
    def steps(self) -> int:
        return math.ceil(len(self.batches) / self.accumulation)

    @property
    def epoch_steps(self) -> tuple[int, ...]:
        """The optimizer steps after which an epoch's rows have all been seen; the last step of the run among them."""
        ends = {math.ceil(end / self.accumulation) for end in self.epoch_ends} | {self.steps}
        return tuple(sorted(ends))


def make_plan(
    lengths: Sequence[int],
    *,
    micro_batch_size: int,
    accumulation: int,
    epochs: float,
    max_steps: int | None,
    seed: int,
    pack_into: int | None = None,
    token_budget: int | None = None,
) -> Plan:
    """The batches of a whole run over rows of `lengths` tokens.

    pack_into   when given, rows share sequences of up to this many tokens, and a micro-batch is so many sequences
    token_budget  when given, a micro-batch is as many rows of like length as have so many tokens, padding counted
    """
    import numpy as np

    sequences: list[Sequence_] = [(i,) for i in range(len(lengths))]
    if pack_into is not None:
        sequences = [tuple(found) for found in pack(lengths, pack_into)]
    if token_budget is not None:
        return _budgeted(lengths, token_budget, accumulation, epochs, max_steps, seed)
    per_epoch = math.ceil(len(sequences) / micro_batch_size)
    wanted = max_steps * accumulation if max_steps is not None else max(1, math.ceil(epochs * per_epoch))
    batches: list[MicroBatch] = []
    ends: list[int] = []
    epoch = 0
    while len(batches) < wanted:
        generator = np.random.Generator(np.random.PCG64([seed, epoch]))
        batches += _epoch(sequences, lengths, micro_batch_size, generator)
        epoch += 1
        if len(batches) <= wanted:
            ends.append(len(batches))
    return Plan(tuple(batches[:wanted]), accumulation, tuple(ends))


def _budgeted(
    lengths: Sequence[int], budget: int, accumulation: int, epochs: float, max_steps: int | None, seed: int
) -> Plan:
    """Length-grouped batches under a token budget, the same in each epoch, in another order."""
    import numpy as np

    groups = evaluation_batches(lengths, budget)
    wanted = max_steps * accumulation if max_steps is not None else max(1, math.ceil(epochs * len(groups)))
    batches: list[MicroBatch] = []
    for epoch in range(math.ceil(wanted / len(groups))):
        generator = np.random.Generator(np.random.PCG64([seed, epoch]))
        batches += [groups[i] for i in generator.permutation(len(groups))]
    ends = range(len(groups), wanted + 1, len(groups))
    return Plan(tuple(batches[:wanted]), accumulation, tuple(ends))


def _epoch(
    sequences: Sequence[Sequence_], lengths: Sequence[int], size: int, generator: np.random.Generator
) -> list[MicroBatch]:
    """One pass: shuffled, sorted by length within pools, cut into micro-batches, the micro-batches shuffled."""
    order = [sequences[i] for i in generator.permutation(len(sequences))]
    pool = _POOL * size
    batches: list[MicroBatch] = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda rows: -sum(lengths[i] for i in rows))
        batches += [tuple(part[at : at + size]) for at in range(0, len(part), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_batches(lengths: Sequence[int], tokens: int) -> list[MicroBatch]:
    """Rows by length, as many together as `tokens` allow (one at least): little padding."""
    batches: list[MicroBatch] = []
    batch: list[Sequence_] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0][0]] > tokens:
            batches.append(tuple(batch))
            batch = []
        batch.append((index,))
    return [*batches, tuple(batch)] if batch else batches


class Collator:
    """Turns micro-batches into tensors; also the map-style dataset that the Trainer's loader walks through in order.

    A row is cut behind its last trained token and shifted: inputs are its tokens but the last, targets the tokens that
    follow each. Rows are padded on the right without an attention mask: in a causal model no token sees what is
    behind it.
    """

    def __init__(self, tokens: Tokens, batches: Sequence[MicroBatch], pad_id: int) -> None:
        self._rows = [_shifted(ids, labels) for ids, labels in zip(tokens.ids, tokens.labels, strict=True)]
        self._batches, self._pad = batches, pad_id

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Mapping[str, torch.Tensor]:
        import numpy as np
        import torch

        batch = self._batches[index]
        packed = any(len(sequence) > 1 for sequence in batch)
        parts = [[self._rows[i] for i in sequence] for sequence in batch]
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

    def counts(self, index: int) -> tuple[int, int]:
        """(tokens, trained tokens) that a micro-batch gives the model, padding not counted."""
        rows = [self._rows[i] for sequence in self._batches[index] for i in sequence]
        return sum(len(inputs) for inputs, _ in rows), sum(int((wanted != IGNORED).sum()) for _, wanted in rows)


def _shifted(ids: Any, labels: Any) -> tuple[Any, Any]:
    import numpy as np

    stop = int(np.flatnonzero(labels != IGNORED)[-1]) + 1
    return ids[: stop - 1], labels[1:stop]
