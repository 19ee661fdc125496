"""Which rows go through the model together, and in what order: decided once, before the first step, from the seed
alone.

The rows of an optimizer step are drawn at random. Steps of rows of like length would need less padding, but their rows
are alike in more than length, and what is learnt from them is worse (measured against TRL: by 0.2 nats a token after a
short run). Padding is saved inside of a step instead: its micro-batches are of rows of like length, and rows of one
micro-batch stand behind each other in a line where the model keeps them apart (`fill`).

The order owes nothing to the state of a random generator, so a resumed run goes on with the very batches that were
left. Used by `edgeft.training.run`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeft.data.packing import pack
from edgeft.training.forms import Rows

if TYPE_CHECKING:
    import numpy as np
    import torch

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
    tokens_per_step: int | None = None,
    token_budget: int | None = None,
) -> Plan:
    """The batches of a whole run over rows of `lengths` tokens.

    pack_into         when given, random rows share sequences of up to this many tokens; a micro-batch is so many
                      sequences
    tokens_per_step   when given, a batch is a whole optimizer step: as many sequences as have about so many tokens
    token_budget      when given, a micro-batch is as many rows of like length as have so many tokens, padding counted
    """
    import numpy as np

    if token_budget is not None and tokens_per_step is None:
        return _budgeted(lengths, token_budget, accumulation, epochs, max_steps, seed)
    if tokens_per_step:
        accumulation = 1
    wanted = max_steps * accumulation if max_steps is not None else None
    batches: list[MicroBatch] = []
    ends: list[int] = []
    epoch = 0
    while wanted is None or len(batches) < wanted:
        generator = np.random.Generator(np.random.PCG64([seed, epoch]))
        sequences = _shuffled(lengths, pack_into, generator)
        if tokens_per_step:
            batches += _steps(sequences, lengths, tokens_per_step)
        else:
            batches += [
                tuple(sequences[at : at + micro_batch_size]) for at in range(0, len(sequences), micro_batch_size)
            ]
        epoch += 1
        if max_steps is None and epoch >= epochs:
            last = ends[-1] if ends else 0
            wanted = last + max(1, math.ceil((epochs - epoch + 1) * (len(batches) - last)))
        if wanted is None or len(batches) <= wanted:
            ends.append(len(batches))
    batches = batches[:wanted]
    steps = [batches[at : at + accumulation] for at in range(0, len(batches), accumulation)]
    return Plan(tuple(batch for step in steps for batch in _dealt(step, lengths)), accumulation, tuple(ends))


def _shuffled(lengths: Sequence[int], pack_into: int | None, generator: np.random.Generator) -> list[Sequence_]:
    """The sequences of an epoch in random order; packed ones are of random rows, others in each epoch."""
    order = [int(i) for i in generator.permutation(len(lengths))]
    if pack_into is None:
        return [(i,) for i in order]
    packed = pack([lengths[i] for i in order], pack_into, as_given=True)
    return [tuple(order[i] for i in packed[at]) for at in generator.permutation(len(packed))]


def _dealt(step: Sequence[MicroBatch], lengths: Sequence[int]) -> list[MicroBatch]:
    """The sequences of an optimizer step dealt anew to its micro-batches, by length, longest first."""

    def size(sequence: Sequence_) -> int:
        return sum(lengths[i] for i in sequence)

    ordered = sorted((sequence for batch in step for sequence in batch), key=size, reverse=True)
    dealt, at = [], 0
    for batch in step:
        dealt.append(tuple(ordered[at : at + len(batch)]))
        at += len(batch)
    return dealt


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


def _steps(sequences: Sequence[Sequence_], lengths: Sequence[int], tokens: int) -> list[MicroBatch]:
    """Cut where the budget is reached: each batch but the last has at least `tokens` tokens."""
    batches: list[MicroBatch] = []
    batch: list[Sequence_] = []
    for sequence in sequences:
        batch.append(sequence)
        if sum(lengths[i] for rows in batch for i in rows) >= tokens:
            batches.append(tuple(batch))
            batch = []
    return [*batches, tuple(batch)] if batch else batches


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


class Batches:
    """The map-style dataset that the Trainer's loader walks through in order: an item is a list of what `Rows.batch`
    gives, each of `most` sequences at most (one part, unless a step is a budget of tokens or memory ran out). Each part
    carries `number`, int64[1], which of the run's it is: random draws are seeded by it.

    fill  rows stand behind each other where the longest one of their part leaves room: for models that keep them apart
    """

    def __init__(
        self, rows: Rows, batches: Sequence[MicroBatch], most: int | None = None, *, fill: bool = False
    ) -> None:
        self.rows, self._batches, self._most, self._fill = rows, batches, most, fill

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> list[Mapping[str, torch.Tensor]]:
        import torch

        batch = self._batches[index]
        size = self._most or len(batch)
        return [
            {**self.rows.batch(self._lines(batch[at : at + size])), "number": torch.tensor([index * 1024 + at])}
            for at in range(0, len(batch), size)
        ]

    def _lines(self, part: MicroBatch) -> MicroBatch:
        if not self._fill:
            return part
        sizes = [sum(self.rows.lengths[i] for i in sequence) for sequence in part]
        return tuple(tuple(i for at in line for i in part[at]) for line in pack(sizes, max(sizes)))

    def names(self, index: int) -> list[str]:
        """The ids of a micro-batch's rows, in its order."""
        return [self.rows.names[i] for sequence in self._batches[index] for i in sequence]

    def counts(self, index: int) -> tuple[int, int]:
        """(tokens, trained tokens) that a micro-batch gives the model, padding not counted."""
        return self.rows.counts(self._batches[index])
