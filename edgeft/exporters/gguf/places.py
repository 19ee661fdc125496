"""Where the rows and columns of a checkpoint's weight stand in a GGUF file: asked of the family's own `tensors`.

A family says how a model's weights become GGUF tensors: names, order of rows, transposed, cut apart. An adapter's
change `B @ A` of a weight takes the same way when only rows and columns move: then the rows of B and the columns of A
move. So the weights are handed over as numbered rows, then as numbered columns, and the family's answer is read: an
answer that is no such numbering is refused. Called by `lora`; knows no family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.weights import Deferred, Weights

if TYPE_CHECKING:
    import torch

_INSTEAD = "export the merged file instead: gguf-f16 or another gguf type"
_WEIGHT = 1 << 32  # what a weight's number counts in a row's


@dataclass(frozen=True)
class Place:
    """A GGUF tensor whose value (i, j) is value (rows[i], columns[j]) of a weight, or of its transpose for a weight
    that is stored as (in, out)."""

    tensor: str
    rows: list[int]
    columns: list[int]


def places(
    family: Any, config: Mapping[str, Any], weights: Weights, wanted: Mapping[str, bool]
) -> dict[str, list[Place]]:
    """The places of the weights in `wanted` (name -> whether it is stored as (in, out)): together each row once.

    A `ModelError` for a weight that is stacked with others, or whose values the family changes as well.
    """
    numbers = dict(enumerate(wanted, start=1))
    rows = {name: _Numbered(weights[name], 1 if wanted[name] else 0, number) for number, name in numbers.items()}
    found: dict[str, list[tuple[str, list[int]]]] = {name: [] for name in wanted}
    for tensor, answer in _answers(family, config, weights, rows):
        codes = [int(code) for chunk in answer.chunks() for code in _first_column(chunk)]
        owner = numbers.get(codes[0] // _WEIGHT) if codes else None
        if owner is not None and all(numbers.get(code // _WEIGHT) == owner for code in codes):
            found[owner].append((tensor, [code % _WEIGHT for code in codes]))
    for name, its in found.items():
        outputs = weights[name].shape[1 if wanted[name] else 0]
        if sorted(row for _, moved in its for row in moved) != list(range(outputs)):
            raise _refusal(name)
    columns = _columns(family, config, weights, wanted)
    if any(tensor not in columns for its in found.values() for tensor, _ in its):
        raise _refusal(next(name for name, its in found.items() for tensor, _ in its if tensor not in columns))
    return {name: [Place(tensor, moved, columns[tensor]) for tensor, moved in its] for name, its in found.items()}


def _columns(
    family: Any, config: Mapping[str, Any], weights: Weights, wanted: Mapping[str, bool]
) -> dict[str, list[int]]:
    """GGUF tensor -> the order of its columns, by its first and its last row."""
    probes = {name: _Numbered(weights[name], 0 if wanted[name] else 1) for name in wanted}
    widths = {weights[name].shape[0 if wanted[name] else 1] for name in wanted}
    found = {}
    for tensor, answer in _answers(family, config, weights, probes):
        first, last = answer.rows(0, 1)[0].tolist(), answer.rows(answer.n_rows - 1, answer.n_rows)[0].tolist()
        if first == last and len(first) in widths and sorted(first) == list(range(len(first))):
            found[tensor] = [int(column) for column in first]
    return found


def _answers(
    family: Any, config: Mapping[str, Any], weights: Weights, probes: Mapping[str, Deferred]
) -> Iterator[tuple[str, Deferred]]:
    """The family's matrices that are made of probes alone."""
    given = {name: probes.get(name) or _Blank(tensor) for name, tensor in weights.items()}
    for name, tensor in family.tensors(config, given).items():
        if len(tensor.shape) == 2 and tensor.numel:
            try:
                tensor.rows(0, 1)
            except _NotAsked:
                continue
            yield name, tensor


def _first_column(chunk: torch.Tensor) -> list[float]:
    """-1 where the row does not say the same at its end."""
    first, last = chunk[:, 0].tolist(), chunk[:, -1].tolist()
    return [one if one == other else -1.0 for one, other in zip(first, last, strict=True)]


def _refusal(name: str) -> ModelError:
    return ModelError(
        f"{name!r} is rearranged on its way into a GGUF file, an adapter of it cannot follow", do=_INSTEAD
    )


class _Numbered(Deferred):
    """In a weight's place: every value is the number of its row (axis 0) or column (axis 1), plus `number` * 2**32. One
    row or column in memory, seen through a view."""

    dtype = "F64"

    def __init__(self, weight: Deferred, axis: int, number: int = 0) -> None:
        self.name, self.shape = weight.name, weight.shape
        self._axis, self._number = axis, number

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        end = self.n_rows if stop is None else min(stop, self.n_rows)
        step = rows or self.rows_for()
        codes = torch.arange(self.shape[self._axis], dtype=torch.float64) + self._number * _WEIGHT
        for at in range(start, end, step):
            last = min(at + step, end)
            part = codes[at:last, None] if self._axis == 0 else codes[None]
            yield part.expand(last - at, self.shape[1])


class _NotAsked(Exception):
    """A weight was read that no probe stands for."""


class _Blank(Deferred):
    """A weight that has its name and shape and no values."""

    def __init__(self, weight: Deferred) -> None:
        self.name, self.shape, self.dtype = weight.name, weight.shape, weight.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        raise _NotAsked
