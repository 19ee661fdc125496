"""An adapter's low-rank change added to a weight as it is read: in float32, rounded once, bit for bit as peft."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeft.errors import ModelError
from edgeft.weights.adapter import Lora
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.threads import torch_threads

if TYPE_CHECKING:
    import torch

# Up to this many bytes the float32 change of a weight is computed at once; above, row block by row block.
_WHOLE = 512 << 20


class Cast(Deferred):
    """A tensor in another float dtype, rounded once."""

    def __init__(self, base: Deferred, dtype: str) -> None:
        self.base, self.name, self.shape, self.dtype = base, base.name, base.shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for chunk in self.base.chunks(rows or self.rows_for(), start=start, stop=stop):
            yield chunk.to(torch_dtype(self.dtype))


class Folded(Deferred):
    """`(base.float() + B @ A * scale).to(dtype)`.

    The products are taken over the whole weight in float32, as peft takes them (of very large ones over blocks of a
    multiple of 64 rows, which gives the same bits); the base is read in chunks.
    """

    def __init__(self, base: Deferred, lora: Lora, dtype: str, whole: int = _WHOLE) -> None:
        self.base, self.lora, self._whole = base, lora, whole
        self.name, self.shape, self.dtype = base.name, base.shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        a, b = _matrix(self.lora.a), _matrix(self.lora.b)
        step = rows or self.rows_for()
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        whole = self._delta(a, b, 0, self.n_rows) if self.numel * 4 <= self._whole else None
        at = start
        for chunk in self.base.chunks(step, start=start, stop=stop):
            count = chunk.shape[0]
            delta = self._delta(a, b, at, at + count) if whole is None else whole[at : at + count]
            merged = chunk.to(torch.float32, copy=True).add_(delta).to(torch_dtype(self.dtype))
            at += count
            yield merged

    def _delta(self, a: torch.Tensor, b: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """float32 rows start:stop of the change; on one thread, so that the split of work never shows in the bits."""
        with torch_threads(1):
            if self.lora.transposed:
                return (b @ a[:, start:stop]).T.mul_(self.lora.scale)
            return (b[start:stop] @ a).mul_(self.lora.scale)


def _matrix(tensor: Deferred) -> torch.Tensor:
    import torch

    values = tensor.read().float()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"the adapter's {tensor.name!r} holds NaN or infinite values",
            do="the training diverged: lower the learning rate and train again",
        )
    return values


class Finite(Deferred):
    """A tensor whose values are checked as they pass: NaN and infinite values are refused with the tensor's name."""

    def __init__(self, base: Deferred, name: str, whose: str) -> None:
        self.base, self.name, self.whose, self.shape, self.dtype = base, name, whose, base.shape, base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        for chunk in self.base.chunks(rows, start=start, stop=stop):
            # NaN goes through minimum and maximum, which are much cheaper than a test of every value.
            if chunk.numel() and not all(bool(torch.isfinite(end)) for end in torch.aminmax(chunk)):
                raise ModelError(f"{self.whose} weight {self.name!r} holds NaN or infinite values")
            yield chunk
