"""Initializers of an ONNX graph that are written slab by slab: float tensors, and weights quantized while they pass.

They stand in onnx_ir's graph like any tensor; its writer calls `tofile` for one after the other. Called by `streamed`
and `nbits`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.fold import Cast
from edgeft.weights.safetensors import raw_bytes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_SLAB = 16 << 20  # bytes of the source that are held at once
_AT_ONCE = 32 << 20  # bytes up to which a transposed tensor is turned in one piece


class Slabs(Protocol):
    """What writes the bytes of an initializer in its own order."""

    def write(self, stream: BinaryIO) -> None: ...


def initializer(slabs: Slabs, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A tensor for onnx_ir's graph whose bytes `slabs` writes. dtype: of onnx_ir."""
    return _tensor_class()(slabs, name, dtype, shape)


@functools.cache
def _tensor_class() -> Any:
    import io

    import numpy as np
    import onnx_ir

    class Slabbed(onnx_ir.LazyTensor):
        __slots__ = ("slabs",)

        def __init__(self, slabs: Slabs, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
            super().__init__(self._whole, dtype, onnx_ir.Shape(shape), name=name)
            self.slabs = slabs

        def tofile(self, file: BinaryIO) -> None:
            self.slabs.write(file)

        def _whole(self) -> Any:
            stream = io.BytesIO()
            self.slabs.write(stream)
            values = np.frombuffer(stream.getvalue(), dtype=self.dtype.numpy()).reshape(self.shape.numpy())
            return onnx_ir.Tensor(values, dtype=self.dtype, name=self.name)

    return Slabbed


class FloatSlabs:
    """A float tensor in the dtype of the graph; `turned`: the transpose of the source.

    The transpose of a large matrix is written in strips: what a slab of its rows becomes is a piece of every line."""

    def __init__(self, source: Deferred, turned: bool, dtype: str) -> None:
        self.source, self.turned = (source if source.dtype == dtype else Cast(source, dtype)), turned

    def write(self, stream: BinaryIO) -> None:
        if not self.turned:
            for chunk in self.source.chunks(self.source.rows_for(_SLAB)):
                stream.write(raw_bytes(chunk))
        elif self.source.nbytes <= _AT_ONCE or not _is_file(stream):
            stream.write(raw_bytes(self.source.read().T))
        else:
            self._write_strips(stream)

    def _write_strips(self, stream: BinaryIO) -> None:
        stream.flush()
        start, descriptor = stream.tell(), stream.fileno()
        rows, width = self.source.shape
        size = self.source.nbytes // (rows * width)
        at = 0
        for chunk in self.source.chunks(self.source.rows_for(_SLAB)):
            lines = raw_bytes(chunk.T)
            strip = chunk.shape[0] * size
            for line in range(width):
                _write_at(descriptor, lines[line * strip : (line + 1) * strip], start + (line * rows + at) * size)
            at += chunk.shape[0]
        stream.seek(start + self.source.nbytes)


def _is_file(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except OSError:
        return False
    return True


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def columns(source: Deferred, turned: bool, wanted: int) -> Iterator[torch.Tensor]:
    """The columns of a matrix (of the transpose of `source` when it is turned), about `wanted` at a time and in order:
    tensors of shape (columns, rows), each column a row."""
    if turned:
        yield from source.chunks(wanted)
        return
    values = source.read()
    for at in range(0, values.shape[1], wanted):
        yield values[:, at : at + wanted].T


def float_array(values: torch.Tensor, dtype: str) -> NDArray[np.floating[Any]]:
    """(columns, rows) of any float dtype -> a contiguous numpy array (rows, columns) of values as `dtype` holds them;
    bfloat16 as float32, which ONNX Runtime's quantizer takes it as."""
    import torch

    values = values.to(torch_dtype(dtype))
    if values.dtype == torch.bfloat16:
        values = values.float()
    array: NDArray[np.floating[Any]] = values.T.contiguous().numpy()
    return array
