"""A GGUF file as `Weights`, by GGUF's own tensor names: float tensors as they are, quantized ones as float32 values.

Read by `compare` (is this file what it was made of?). The gguf package reads the header and dequantizes (`gguf.quants`,
the values of ggml's own `to_float`); a tensor's rows are mapped, and only those asked for are dequantized.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft import extras
from edgeft.errors import ModelError
from edgeft.files import is_lfs_pointer
from edgeft.weights.deferred import Deferred

if TYPE_CHECKING:
    import torch

_FLOATS = ("F32", "F16", "BF16")


def open_gguf(path: Path) -> dict[str, GgufStored]:
    """The tensors of a GGUF file, in its order. `ModelError` for what is no whole GGUF file."""
    extras.require("gguf")
    from gguf import GGUFReader

    if not path.is_file():
        raise ModelError("the GGUF file is not there", where=path)
    if is_lfs_pointer(path):
        raise ModelError("this is a Git LFS pointer, not the weights", where=path, do="run: git lfs pull")
    try:
        reader = GGUFReader(path)
    except Exception as error:  # the reader trusts the file: index, type, memory and value errors of numpy
        raise ModelError(f"this is not a whole GGUF file ({type(error).__name__}: {error})", where=path) from None
    found = {str(tensor.name): GgufStored(path, tensor) for tensor in reader.tensors}
    if not found:
        raise ModelError("the GGUF file has no tensors", where=path)
    return found


class GgufStored(Deferred):
    """A tensor of a GGUF file. `type`: as ggml calls it ("Q4_K"); shape in the order of PyTorch."""

    def __init__(self, path: Path, tensor: Any) -> None:
        self.name, self.path, self.type = str(tensor.name), path, str(tensor.tensor_type.name)
        self.shape = tuple(int(size) for size in reversed(tensor.shape))
        self.dtype = self.type if self.type in _FLOATS else "F32"
        self._tensor = tensor

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        step = rows or self.rows_for()
        for at in range(start, stop, step):
            yield self._values(at, min(at + step, stop))

    def _values(self, start: int, stop: int) -> torch.Tensor:
        import numpy as np
        import torch
        from gguf import quants

        data = np.array(self._tensor.data[start:stop])
        shape = (stop - start, *self.shape[1:])
        if self.type == "BF16":
            return torch.from_numpy(data.view(np.uint8)).view(torch.bfloat16).reshape(shape)
        if self.type in _FLOATS:
            return torch.from_numpy(data).reshape(shape)
        try:
            values = quants.dequantize(data, self._tensor.tensor_type)
        except NotImplementedError:
            raise ModelError(
                f"{self.name!r} has the type {self.type}, which gguf cannot read", where=self.path
            ) from None
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(shape)
