"""Rows of a tensor on their way to a quantizer: float32, or 16-bit floats that are converted where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2


@dataclass(frozen=True)
class Rows:
    """`data`: contiguous [rows, width], float32, or uint16 with the bits of the 16-bit floats that `kind` names."""

    data: NDArray[Any]
    kind: int = FLOAT32

    @staticmethod
    def of(tensor: torch.Tensor) -> Rows:
        """The rows of a 2-dimensional tensor on the CPU, of any float dtype; no copy of 16 and 32 bits."""
        import numpy as np
        import torch

        kind = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}.get(tensor.dtype, FLOAT32)
        if kind == FLOAT32:
            return Rows(tensor.float().contiguous().numpy())
        return Rows(tensor.contiguous().view(torch.int16).numpy().view(np.uint16), kind)

    def part(self, first: int, last: int) -> Rows:
        return Rows(self.data[first:last], self.kind)

    def floats(self) -> NDArray[np.float32]:
        """All values as float32, contiguous."""
        import numpy as np

        if self.kind == BFLOAT16:
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        if self.kind == FLOAT16:
            return self.data.view(np.float16).astype(np.float32)
        return np.ascontiguousarray(self.data)
