"""A tensor that is known by shape and dtype now, and read when asked for. Implemented by the sources of this package.

Dtypes are named as safetensors names them ("BF16", "F16", "F32"), so that nothing here needs torch before a value is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# safetensors dtype -> bytes per element. The float ones are what a merge can hold; the others are passed through.
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")
_CHUNK = 16 << 20  # elements of a row chunk, as bytes of the source


class Deferred:
    """One tensor. Values come as a torch tensor of `dtype` on the CPU; every file is closed again after each read.

    A subclass gives `chunks`; the rest follows. Row r of a tensor of shape (n, …) is `tensor[r]`; a scalar has one row.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values in `dtype`."""
        return self.numel * SIZES[self.dtype]

    @property
    def n_rows(self) -> int:
        return self.shape[0] if self.shape else 1

    def rows_for(self, nbytes: int = _CHUNK) -> int:
        """How many rows a chunk of about `nbytes` has; a multiple of 64 when there are that many, at least 1."""
        rows = max(1, nbytes * self.n_rows // max(1, self.nbytes))
        return rows - rows % 64 if rows >= 64 else rows

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        """The rows start:stop in order, `rows` at a time (by default about 16 MB). Holds one chunk at a time."""
        raise NotImplementedError

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The rows start:stop as one tensor of shape (stop - start, …)."""
        return next(iter(self.chunks(max(1, stop - start), start=start, stop=stop)))

    def read(self) -> torch.Tensor:
        """The whole tensor, of `shape`."""
        return self.rows(0, self.n_rows).reshape(self.shape)


Weights = Mapping[str, Deferred]
