"""Tensors rearranged while they are read: the same values as torch makes of the whole, without holding the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families.experts import gathered
from edgeft.exporters.gguf.families.rearranged import (
    Blocks,
    ColumnBlocks,
    Flat,
    InnerRows,
    Interleaved,
    MinusExp,
    PlusOne,
    Stacked,
    Transposed,
)
from edgeft.weights import Deferred


class Held(Deferred):
    """A tensor in memory that counts how much of it is asked for."""

    def __init__(self, values: torch.Tensor, name: str = "x") -> None:
        self.values, self.name, self.shape = values, name, tuple(values.shape)
        self.dtype = {torch.float32: "F32", torch.bfloat16: "BF16"}[values.dtype]
        self.reads = 0

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        part = self.values[start:stop]
        self.reads += part.shape[0]
        yield from part.split(rows or 5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4)).bfloat16()


ORDER = [(0, 4), (10, 14), (4, 10)]
MADE: dict[str, tuple[Any, Any]] = {
    "blocks": (
        lambda: Blocks(Held(random(14, 6)), ORDER),
        lambda: random(14, 6)[[*range(4), *range(10, 14), *range(4, 10)]],
    ),
    "column blocks": (
        lambda: ColumnBlocks(Held(random(6, 14)), ORDER),
        lambda: random(6, 14)[:, [*range(4), *range(10, 14), *range(4, 10)]],
    ),
    "flat": (lambda: Flat(Held(random(6, 1, 4))), lambda: random(6, 1, 4)[:, 0]),
    "minus exp": (lambda: MinusExp(Held(random(9))), lambda: -random(9).float().exp()),
    "interleaved": (
        lambda: Interleaved(Held(random(24, 6)), 8),
        lambda: random(24, 6).reshape(3, 2, 4, 6).transpose(1, 2).reshape(24, 6),
    ),
    "plus one": (lambda: PlusOne(Held(random(24))), lambda: random(24).float() + 1),
    "transposed": (lambda: Transposed(Held(random(24, 14))), lambda: random(24, 14).T),
    "transposed in bands": (lambda: Transposed(Held(random(24, 14)), band=5 * 24 * 2), lambda: random(24, 14).T),
    "stacked": (
        lambda: Stacked("x", [Held(row) for row in random(4, 6, 8)]),
        lambda: random(4, 6, 8),
    ),
    "inner rows": (lambda: InnerRows(Held(random(4, 6, 8)), 2, 5), lambda: random(4, 6, 8)[:, 2:5]),
}


@pytest.mark.parametrize("name", MADE)
def test_values(name: str) -> None:
    make, want = MADE[name]
    tensor, whole = make(), want()
    assert tensor.shape == tuple(whole.shape)
    assert torch.equal(tensor.read(), whole)
    for start, stop in ((0, 1), (1, 3), (2, tensor.n_rows)):
        assert torch.equal(tensor.rows(start, stop), whole[start:stop]), (start, stop)
        assert torch.equal(torch.cat(list(tensor.chunks(2, start=start, stop=stop))), whole[start:stop])


def test_a_band_is_all_that_is_held() -> None:
    """A matrix larger than a band is read once for each band, and no chunk is larger than one."""
    base = Held(random(24, 14))
    chunks = list(Transposed(base, band=5 * 24 * 2).chunks())
    assert base.reads == 3 * 24
    assert max(chunk.shape[0] for chunk in chunks) <= 5


def test_experts_are_read_one_by_one() -> None:
    parts = [Held(row) for row in random(4, 6, 8)]
    stream = Stacked("x", parts).chunks()
    next(stream)
    assert [part.reads for part in parts] == [6, 0, 0, 0]


# --- the two layouts of experts -------------------------------------------------------------------------------------

PREFIX = "model.layers.0.mlp.experts"


def one_by_one(gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> dict[str, Deferred]:
    matrices = {"gate_proj": gate, "up_proj": up, "down_proj": down}
    return {
        f"{PREFIX}.{number}.{name}.weight": Held(values[number])
        for number in range(gate.shape[0])
        for name, values in matrices.items()
    }


def test_both_layouts_give_the_same_stacks() -> None:
    gate, up, down = random(4, 3, 8), random(4, 3, 8) * 2, random(4, 8, 3)
    first = gathered(one_by_one(gate, up, down), 4, 3)
    fused = {
        f"{PREFIX}.gate_up_proj": Held(torch.cat([gate, up], 1)),
        f"{PREFIX}.down_proj": Held(down),
    }
    second = gathered(fused, 4, 3)
    assert set(first) == set(second) == {f"{PREFIX}.{name}_proj.weight" for name in ("gate", "up", "down")}
    for name, tensor in first.items():
        assert torch.equal(tensor.read(), second[name].read()), name
    assert torch.equal(first[f"{PREFIX}.up_proj.weight"].read(), up)


def test_experts_that_do_not_fit() -> None:
    gate, up, down = random(4, 3, 8), random(4, 3, 8), random(4, 8, 3)
    weights = one_by_one(gate, up, down)
    missing = {name: tensor for name, tensor in weights.items() if ".2.up_proj" not in name}
    with pytest.raises(ModelError, match="11 of the 12 matrices"):
        gathered(missing, 4, 3)
    with pytest.raises(ModelError, match="12 of the 15"):
        gathered(weights, 5, 3)
    with pytest.raises(ModelError, match="width 7"):
        gathered(weights, 4, 7)
    with pytest.raises(ModelError, match="of one shape"):
        gathered({**weights, f"{PREFIX}.1.up_proj.weight": Held(random(4, 8))}, 4, 3)
    with pytest.raises(ModelError, match="two matrices of 3 rows"):
        gathered({f"{PREFIX}.gate_up_proj": Held(random(4, 5, 8))}, 4, 3)
