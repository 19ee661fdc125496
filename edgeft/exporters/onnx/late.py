"""torch tensors whose values are read when they are needed: what onnxruntime-genai's builder is given for weights.

The builder turns, cuts and joins the weights of a model on its way to initializers. A late tensor records that instead
of doing it: each step gives another late tensor, whose `source` is a `Deferred` (rows in order) that may be `turned`
(the values are those of the transposed source). Steps that are not known here are recorded whole and done when values
are asked for. Called by `streamed`; read by `slabs`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.fold import Cast

if TYPE_CHECKING:
    import torch


class NotCarried(ModelError):
    """Something that the streamed way does not carry, and the builder alone may; `do` says how."""


STOCK = "use onnxruntime-genai's own way, which holds the whole model in memory: --builder stock"


class Cut(Deferred):
    """The rows start:stop of another tensor."""

    def __init__(self, base: Deferred, start: int, stop: int) -> None:
        self.base, self.first = base, start
        self.name, self.shape, self.dtype = base.name, (max(0, stop - start), *base.shape[1:]), base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        yield from self.base.chunks(rows or self.rows_for(), start=self.first + start, stop=self.first + stop)


class Joined(Deferred):
    """Tensors of one dtype and row shape, one below the other."""

    def __init__(self, parts: Sequence[Deferred]) -> None:
        self.parts = tuple(parts)
        self.name, self.dtype = parts[0].name, parts[0].dtype
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        at = 0
        for part in self.parts:
            first, last = max(start - at, 0), min(stop - at, part.n_rows)
            if first < last:
                yield from part.chunks(rows or self.rows_for(), start=first, stop=last)
            at += part.n_rows


class Worked(Deferred):
    """The result of a function of whole tensors, worked out each time it is asked for: for small ones."""

    def __init__(self, name: str, shape: Sequence[int], dtype: str, work: Callable[[], torch.Tensor]) -> None:
        self.name, self.shape, self.dtype, self._work = name, tuple(shape), dtype, work

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        values = self._work()
        yield values[start : self.n_rows if stop is None else stop] if self.shape else values.reshape(1)


def late(source: Deferred, *, turned: bool = False) -> torch.Tensor:
    """A torch tensor of the shape and dtype of `source` (turned: of its transpose) without values."""
    return _late_class()(source, turned)


def is_late(value: Any) -> bool:
    return isinstance(value, _late_class())


def read(value: torch.Tensor) -> torch.Tensor:
    """The values of a late tensor, all of them."""
    values = value.source.read()  # type: ignore[attr-defined]
    return values.T if value.turned else values  # type: ignore[attr-defined]


@functools.cache
def _late_class() -> Any:
    """The class; made at its first use, because it derives from torch's."""
    import torch

    class Late(torch.Tensor):
        source: Deferred
        turned: bool

        @staticmethod
        def __new__(cls, source: Deferred, turned: bool) -> Late:
            shape = source.shape[::-1] if turned else source.shape
            self: Late = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls, shape, dtype=torch_dtype(source.dtype), device="cpu"
            )
            self.source, self.turned = source, turned
            return self

        def __init__(self, *_: Any) -> None:
            super().__init__()

        def __repr__(self) -> str:  # type: ignore[override]
            return f"Late({self.source.name}, {tuple(self.shape)}, turned={self.turned})"

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            known = _steps().get(func)
            if known is not None:
                found = known(*args, **(kwargs or {}))
                if found is not None:
                    return found
            return _worked(func, args, kwargs or {})

    return Late


@functools.cache
def _steps() -> dict[Any, Callable[..., torch.Tensor | None]]:
    """torch's operation -> what it makes of late tensors; None where the general way has to do it."""
    import torch

    aten = torch.ops.aten
    same = (aten.detach.default, aten.alias.default, aten.clone.default, aten.contiguous.default)
    views = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)
    return {
        **dict.fromkeys(same, lambda value, **_: late(value.source, turned=value.turned)),
        **dict.fromkeys(views, _viewed),
        aten.t.default: _turned,
        aten.transpose.int: lambda value, first, second: _turned(value) if {first % 2, second % 2} == {0, 1} else None,
        aten.permute.default: lambda value, dims: _turned(value) if list(dims) == [1, 0] else None,
        aten.slice.Tensor: _cut,
        aten.cat.default: _joined,
        aten._to_copy.default: _cast,
    }


def _turned(value: Any) -> torch.Tensor | None:
    return late(value.source, turned=not value.turned) if value.dim() == 2 else None


def _viewed(value: Any, shape: Sequence[int]) -> torch.Tensor | None:
    return late(value.source, turned=value.turned) if tuple(shape) == tuple(value.shape) else None


def _cut(value: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    size = value.shape[dim]
    first, last, _ = slice(start, end).indices(size)
    if step == 1 and (first, last) == (0, size):
        return late(value.source, turned=value.turned)
    if step != 1 or dim % value.dim() != (1 if value.turned else 0):
        return None
    return late(Cut(value.source, first, last), turned=value.turned)


def _joined(values: Sequence[Any], dim: int = 0) -> Any:
    sources = [value.source for value in values if is_late(value)]
    alike = len({(source.dtype, source.shape[1:]) for source in sources}) == 1
    if len(sources) < len(values) or not alike or dim != 0 or any(value.turned for value in values):
        return None
    return late(Joined(sources))


def _cast(value: Any, *, dtype: torch.dtype | None = None, **others: Any) -> Any:
    if any(others.values()):
        return None
    name = value.source.dtype if dtype is None else _names().get(dtype)
    return None if name is None else late(Cast(value.source, name), turned=value.turned)


def _worked(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that is not known here: its result as a tensor to be worked out later, or at once when torch needs
    the values (a number, a truth) now."""
    import torch
    from torch.utils._pytree import tree_map

    def values(part: Any) -> Any:
        return read(part) if is_late(part) else part

    def hollow(part: Any) -> Any:
        return part.to("meta") if isinstance(part, torch.Tensor) and not is_late(part) else _hollow(part)

    if func._schema.is_mutable:
        raise NotCarried(f"the streamed export does not carry the builder's step {func}", do=STOCK)
    if not any(isinstance(result.type, torch.TensorType) for result in func._schema.returns):
        return func(*tree_map(values, args), **tree_map(values, kwargs))
    shape = func(*tree_map(hollow, args), **tree_map(hollow, kwargs))
    if not isinstance(shape, torch.Tensor) or shape.dtype not in _names():
        return func(*tree_map(values, args), **tree_map(values, kwargs))
    first = next(part for part in itertools.chain(args, kwargs.values()) if _holds_late(part))
    name = first.source.name if is_late(first) else str(func)
    return late(
        Worked(
            name,
            shape.shape,
            _names()[shape.dtype],
            lambda: func(*tree_map(values, args), **tree_map(values, kwargs)),
        )
    )


def _holds_late(part: Any) -> bool:
    return is_late(part) or (isinstance(part, list | tuple) and any(is_late(entry) for entry in part))


def _hollow(part: Any) -> Any:
    import torch

    return torch.empty(part.shape, dtype=part.dtype, device="meta") if is_late(part) else part


@functools.cache
def _names() -> dict[torch.dtype, str]:
    """torch's dtypes of values that are carried, by the names that safetensors has for them."""
    return {torch_dtype(name): name for name in ("F64", "F32", "F16", "BF16", "I64", "I32", "BOOL", "U8", "I8")}
