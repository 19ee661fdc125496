"""Tensors as llama.cpp stores them, made of a checkpoint's while they are read: reordered, turned, stacked, shifted.

Used by the family modules. Each is a `Deferred` and holds one chunk at a time, as the sources do; what is folded into a
tensor by an adapter happens before, on the checkpoint's own rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeft.weights import Deferred
from edgeft.weights.dtypes import torch_dtype

if TYPE_CHECKING:
    import torch

_BAND = 64 << 20  # bytes of a transposed matrix that are held at once


class Interleaved(Deferred):
    """Rows of each head reordered from two halves (Transformers' rotation) to pairs (llama.cpp's).

    Row h*n/2 + i of a head of n rows goes to row 2*i + h."""

    def __init__(self, base: Deferred, head_rows: int) -> None:
        self.base, self.head_rows = base, head_rows
        self.name, self.shape, self.dtype = base.name, base.shape, base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        unit = self.head_rows
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        first, last = start - start % unit, stop + -stop % unit  # whole heads
        at = first
        for chunk in self.base.chunks(max(unit, (rows or self.rows_for()) // unit * unit), start=first, stop=last):
            heads = chunk.reshape(-1, 2, unit // 2, *self.shape[1:]).transpose(1, 2).reshape(chunk.shape)
            yield heads[max(0, start - at) : min(chunk.shape[0], stop - at)]
            at += chunk.shape[0]


class PlusOne(Deferred):
    """A norm's weight, stored as the difference from one, as the factor itself; in float32, where 1 + w is not rounded
    to the checkpoint's 16 bits."""

    dtype = "F32"

    def __init__(self, base: Deferred) -> None:
        self.base, self.name, self.shape = base, base.name, base.shape

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for chunk in self.base.chunks(rows, start=start, stop=stop):
            yield chunk.float() + 1.0


class Transposed(Deferred):
    """A matrix with rows and columns exchanged: row r is column r of `base`.

    Bands of up to `band` bytes are gathered in one pass over `base` each: a larger matrix is read more than once."""

    def __init__(self, base: Deferred, band: int = _BAND) -> None:
        self.base, self.band = base, band
        self.name, self.shape, self.dtype = base.name, (base.shape[1], base.shape[0]), base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        width = self.rows_for(self.band)
        step = rows or self.rows_for()
        for first in range(start, stop, width):
            last = min(first + width, stop)
            band = torch.empty((last - first, self.shape[1]), dtype=torch_dtype(self.dtype))
            at = 0
            for chunk in self.base.chunks():
                band[:, at : at + chunk.shape[0]] = chunk[:, first:last].T
                at += chunk.shape[0]
            yield from band.split(step)


class Stacked(Deferred):
    """Tensors of one shape as one tensor with one more dimension in front; each is read when its turn comes."""

    def __init__(self, name: str, parts: Sequence[Deferred]) -> None:
        self.parts = parts
        self.name, self.shape, self.dtype = name, (len(parts), *parts[0].shape), parts[0].dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for part in self.parts[start:stop]:
            yield part.read()[None]


class InnerRows(Deferred):
    """The rows first:last of each matrix of a stack: shape (n, last - first, columns) of a base (n, rows, columns)."""

    def __init__(self, base: Deferred, first: int, last: int) -> None:
        self.base, self.first, self.last = base, first, last
        self.name, self.shape, self.dtype = base.name, (base.shape[0], last - first, *base.shape[2:]), base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for chunk in self.base.chunks(rows, start=start, stop=stop):
            yield chunk[:, self.first : self.last]


class Given(Deferred):
    """A short float32 vector that a config spells out."""

    dtype = "F32"

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name, self.values, self.shape = name, values, (len(values),)

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        yield torch.tensor([float(value) for value in self.values], dtype=torch.float32)[start:stop]


class Blocks(Deferred):
    """Some rows, or all in another order: the row ranges `bounds` of the base, one after the other."""

    def __init__(self, base: Deferred, bounds: Sequence[tuple[int, int]]) -> None:
        self.base, self.bounds = base, bounds
        self.name, self.dtype = base.name, base.dtype
        self.shape = (sum(last - first for first, last in bounds), *base.shape[1:])

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        at = 0
        for first, last in self.bounds:
            begin, end = max(start - at, 0), min(stop - at, last - first)
            if begin < end:
                yield from self.base.chunks(rows, start=first + begin, stop=first + end)
            at += last - first


class ColumnBlocks(Deferred):
    """Columns in another order: the column ranges `bounds` of the base, side by side."""

    def __init__(self, base: Deferred, bounds: Sequence[tuple[int, int]]) -> None:
        self.base, self.bounds = base, bounds
        self.name, self.shape, self.dtype = base.name, base.shape, base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        for chunk in self.base.chunks(rows, start=start, stop=stop):
            yield torch.cat([chunk[:, first:last] for first, last in self.bounds], 1)


class Flat(Deferred):
    """A matrix of a tensor (rows, 1, columns)."""

    def __init__(self, base: Deferred) -> None:
        self.base = base
        self.name, self.shape, self.dtype = base.name, (base.shape[0], base.shape[-1]), base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for chunk in self.base.chunks(rows, start=start, stop=stop):
            yield chunk.reshape(-1, self.shape[1])


class MinusExp(Deferred):
    """A decay stored as its logarithm, as the (negative) rate itself, in float32."""

    dtype = "F32"

    def __init__(self, base: Deferred) -> None:
        self.base, self.name, self.shape = base, base.name, base.shape

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        for chunk in self.base.chunks(rows, start=start, stop=stop):
            yield -torch.exp(chunk.float())
