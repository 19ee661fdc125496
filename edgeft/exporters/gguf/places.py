"""Where the rows of a checkpoint's weight stand in a GGUF file: asked of the family's own `tensors`, by probes.

A family says how a model's weights become GGUF tensors (names, order of rows, transposed or cut apart). An adapter's
change `B @ A` of a weight takes the same way when only the rows of the weight move: then the rows of B move. So the
weights are given as numbered rows and the family's answer is read. Called by `lora`; knows no family.
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


@dataclass(frozen=True)
class Place:
    """A GGUF tensor: its row i is row `rows[i]` of the weight (of its transpose, for one stored transposed)."""

    tensor: str
    rows: list[int]


def places(
    family: Any, config: Mapping[str, Any], weights: Weights, wanted: Mapping[str, bool]
) -> dict[str, list[Place]]:
    """The places of the weights in `wanted` (name -> whether it is stored as (in, out)).

    A `ModelError` for a weight that has no place of its own, or whose values or columns the family changes as well.
    """
    found: dict[str, list[Place]] = {name: [] for name in wanted}
    numbers = dict(enumerate(wanted, start=1))
    probes = {name: _rows(weights[name], number, wanted[name]) for number, name in numbers.items()}
    for tensor, values in _answers(family, config, weights, probes):
        number = int(values[0, 0])
        if number not in numbers or values.shape[1] != 2 or not bool((values[:, 0] == number).all()):
            continue
        found[numbers[number]].append(Place(tensor, [int(row) for row in values[:, 1]]))
    for name, its in found.items():
        rows = sorted(row for place in its for row in place.rows)
        if rows != list(range(_outputs(weights[name], wanted[name]))):
            raise ModelError(
                f"{name!r} is rearranged on its way into a GGUF file so that an adapter of it cannot follow",
                do=_INSTEAD,
            )
    _check_columns(family, config, weights, wanted, found)
    return found


def _check_columns(
    family: Any,
    config: Mapping[str, Any],
    weights: Weights,
    wanted: Mapping[str, bool],
    found: Mapping[str, list[Place]],
) -> None:
    """Columns must stay where they are: A is written as it is. The first row of each place tells."""
    whose = {place.tensor: name for name, its in found.items() for place in its}
    probes = {name: _columns(weights[name], wanted[name]) for name in wanted}
    seen = dict(_answers(family, config, weights, probes, stop=1))
    for tensor, name in whose.items():
        inputs = weights[name].shape[0 if wanted[name] else 1]
        if tensor not in seen or seen[tensor][0].tolist() != list(range(inputs)):
            raise ModelError(f"the columns of {name!r} are rearranged in a GGUF file", do=_INSTEAD)


def _answers(
    family: Any, config: Mapping[str, Any], weights: Weights, probes: Mapping[str, Deferred], stop: int | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The family's tensors that are made of probes alone: GGUF name, values (the first `stop` rows)."""
    given = {name: probes.get(name) or _Blank(tensor) for name, tensor in weights.items()}
    for name, tensor in family.tensors(config, given).items():
        if len(tensor.shape) == 2:
            try:
                yield name, tensor.rows(0, tensor.n_rows if stop is None else stop)
            except _NotAsked:
                continue


def _outputs(weight: Deferred, transposed: bool) -> int:
    return weight.shape[1 if transposed else 0]


def _rows(weight: Deferred, number: int, transposed: bool) -> Deferred:
    """Two columns: the weight's number and the row's."""
    import torch

    rows = torch.arange(_outputs(weight, transposed), dtype=torch.float32)
    values = torch.stack([torch.full_like(rows, number), rows], dim=1)
    return _Probe(weight.name, values.T if transposed else values)


def _columns(weight: Deferred, transposed: bool) -> Deferred:
    """Every value is the number of its column (of its row, when it is stored transposed); takes no memory."""
    import torch

    if transposed:
        return _Probe(weight.name, torch.arange(weight.shape[0], dtype=torch.float32)[:, None].expand(weight.shape))
    return _Probe(weight.name, torch.arange(weight.shape[1], dtype=torch.float32).expand(weight.shape))


class _Probe(Deferred):
    """Made-up values in a weight's place."""

    dtype = "F32"

    def __init__(self, name: str, values: torch.Tensor) -> None:
        self.name, self.shape, self._values = name, tuple(values.shape), values

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        step = rows or self.rows_for()
        end = self.n_rows if stop is None else min(stop, self.n_rows)
        for at in range(start, end, step):
            yield self._values[at : min(at + step, end)]


class _NotAsked(Exception):
    """A weight was read that no probe stands for."""


class _Blank(Deferred):
    """A weight that has its name and shape and no values."""

    def __init__(self, weight: Deferred) -> None:
        self.name, self.shape, self.dtype = weight.name, weight.shape, weight.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        raise _NotAsked
