"""An adapter's low-rank change added to a weight as it is read: in float32, rounded once, bit for bit as peft."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeft.errors import ModelError
from edgeft.weights.adapter import Lora, Shift, Tokens
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.threads import torch_threads

if TYPE_CHECKING:
    import torch

# Up to this many bytes the float32 change of a weight is computed at once; above, row block by row block.
_WHOLE = 512 << 20


_REMEDIES = {
    "the base's": "the checkpoint is damaged: copy or download it again",
    "the merged": "the base holds such values, or the change is too large for the checkpoint's dtype",
    "the adapter's": "the training diverged: lower the learning rate and train again",
}


class Cast(Deferred):
    """A tensor in another float dtype, rounded once."""

    def __init__(self, base: Deferred, dtype: str) -> None:
        self.base, self.name, self.shape, self.dtype = base, base.name, base.shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        for chunk in self.base.chunks(rows or self.rows_for(), start=start, stop=stop):
            yield chunk.to(torch_dtype(self.dtype))


class Folded(Deferred):
    """`(base.float() + B @ A * scale).to(dtype)`; of DoRA that times magnitude / norm, row by row (transposed: column).

    The products are taken over the whole weight in float32, as peft takes them (of very large ones over blocks of a
    multiple of 64 rows, which gives the same bits); the base is read in chunks.
    """

    def __init__(self, base: Deferred, lora: Lora, dtype: str, whole: int = _WHOLE) -> None:
        self.base, self.lora, self._whole = base, lora, whole
        self.name, self.shape, self.dtype = base.name, base.shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        a, b = matrix(self.lora.a), matrix(self.lora.b)
        step = rows or self.rows_for()
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        whole = self._delta(a, b, 0, self.n_rows) if self.numel * 4 <= self._whole else None
        factor = self._factor(a, b, whole) if self.lora.magnitude else None
        at = start
        for chunk in self.base.chunks(step, start=start, stop=stop):
            count = chunk.shape[0]
            delta = self._delta(a, b, at, at + count) if whole is None else whole[at : at + count]
            merged = chunk.to(torch.float32, copy=True).add_(delta)
            if factor is not None:
                merged.mul_(factor if self.lora.transposed else factor[at : at + count])
            at += count
            yield merged.to(torch_dtype(self.dtype))

    def undone(self, merged: Deferred) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """float32 (base, base as `merged` without the change gives it, merged), a row chunk at a time; of DoRA all
        are in the scale of the merged weight."""
        a, b = matrix(self.lora.a), matrix(self.lora.b)
        factor = self._factor(a, b, None) if self.lora.magnitude else None
        at = 0
        for chunk in self.base.chunks(self.rows_for()):
            stop = at + chunk.shape[0]
            base, values, delta = chunk.float(), merged.rows(at, stop).float(), self._delta(a, b, at, stop)
            if factor is not None:
                cut = factor if self.lora.transposed else factor[at:stop]
                base, delta = base * cut, delta * cut
            yield base, values - delta, values
            at = stop

    def _factor(self, a: torch.Tensor, b: torch.Tensor, whole: torch.Tensor | None) -> torch.Tensor:
        """DoRA's magnitude / norm, float32 (rows, 1) or, transposed, (1, columns). The norm is that of the changed
        weight before rounding, over what is one output of the layer (https://arxiv.org/abs/2402.09353, as peft)."""
        import torch

        assert self.lora.magnitude is not None
        magnitude = matrix(self.lora.magnitude).reshape(-1)
        if self.lora.transposed:  # a norm over columns needs all rows at once to have peft's bits
            changed = self.base.read().float() + (self._delta(a, b, 0, self.n_rows) if whole is None else whole)
            norm = torch.linalg.norm(changed.T, dim=1)
            return (magnitude / norm).view(1, -1)
        norms, at = [], 0
        for chunk in self.base.chunks(self.rows_for()):
            stop = at + chunk.shape[0]
            delta = self._delta(a, b, at, stop) if whole is None else whole[at:stop]
            norms.append(torch.linalg.norm(chunk.float() + delta, dim=1))
            at = stop
        return (magnitude / torch.cat(norms)).view(-1, 1)

    def _delta(self, a: torch.Tensor, b: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """float32 rows start:stop of the change; on one thread, so that the split of work never shows in the bits."""
        with torch_threads(1):
            if self.lora.transposed:
                return (b @ a[:, start:stop]).T.mul_(self.lora.scale)
            return (b[start:stop] @ a).mul_(self.lora.scale)


class Shifted(Deferred):
    """A bias with a trained LoRA bias added: `(base.float() + bias * scale).to(dtype)`."""

    def __init__(self, base: Deferred, shift: Shift, dtype: str) -> None:
        self.base, self.shift = base, shift
        self.name, self.shape, self.dtype = base.name, base.shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        at = start
        for chunk in self.base.chunks(rows, start=start, stop=stop):
            change = matrix(self.shift.bias)[at : at + len(chunk)] * self.shift.scale
            at += len(chunk)
            yield chunk.float().add_(change).to(torch_dtype(self.dtype))


class Retaught(Deferred):
    """An embedding whose trained tokens have rows of their own, rounded once to its dtype."""

    def __init__(self, base: Deferred, tokens: Tokens) -> None:
        self.base, self.tokens = base, tokens
        self.name, self.shape, self.dtype = base.name, base.shape, base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        trained = matrix(self.tokens.rows).to(torch_dtype(self.dtype))
        at = start
        for chunk in self.base.chunks(rows, start=start, stop=stop):
            for index, row in zip(self.tokens.indices, trained, strict=True):
                if at <= index < at + len(chunk):
                    chunk[index - at] = row
            at += len(chunk)
            yield chunk


def matrix(tensor: Deferred) -> torch.Tensor:
    import torch

    values = tensor.read().float()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"the adapter's {tensor.name!r} holds NaN or infinite values",
            where=getattr(tensor, "path", None),
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
                raise ModelError(
                    f"{self.whose} weight {self.name!r} holds NaN or infinite values", do=_REMEDIES.get(self.whose)
                )
            yield chunk
