"""A tensor that is known by shape and dtype now, and read when asked for. Implemented by the sources of this package.

Dtypes are named as safetensors names them ("BF16", "F16", "F32"), so that nothing needs torch before a value is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgeft.weights.dtypes import SIZES, torch_dtype

if TYPE_CHECKING:
    import torch

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
        """The rows start:stop in order, about `rows` at a time (by default about 16 MB).

        The lengths of chunks may differ; together they are exactly the rows asked for. Holds one chunk at a time.
        """
        raise NotImplementedError

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The rows start:stop as one tensor of shape (stop - start, …)."""
        import torch

        found = list(self.chunks(max(1, stop - start), start=start, stop=stop))
        if not found:
            return torch.empty((0, *self.shape[1:]), dtype=torch_dtype(self.dtype))
        return found[0] if len(found) == 1 else torch.cat(found)

    def read(self) -> torch.Tensor:
        """The whole tensor, of `shape`."""
        return self.rows(0, self.n_rows).reshape(self.shape)


Weights = Mapping[str, Deferred]
