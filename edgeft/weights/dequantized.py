"""What a weight is worth inside a bitsandbytes 4-bit model: quantized and dequantized by bitsandbytes' own kernels.

QLoRA trains against these values, not against the checkpoint's; see `merged` for when they are the ones to fold into.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.extras import imported
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import SIZES, torch_dtype

if TYPE_CHECKING:
    import torch

_NESTED_BLOCK = 256  # bitsandbytes' own block size of the second quantization
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True)
class FourBit:
    """How weights were quantized. `dtype` ("F32", …) is the one they are computed with when dequantized in training."""

    quant_type: str = "nf4"
    double_quant: bool = True
    blocksize: int = 64
    dtype: str = "F32"
    weights: frozenset[str] = frozenset()

    @staticmethod
    def of(table: Mapping[str, Any]) -> FourBit:
        """From the `quantization` table of an adapter's training.json."""
        try:
            found = FourBit(
                quant_type=str(table["quant_type"]),
                double_quant=bool(table["double_quant"]),
                blocksize=int(table.get("blocksize", 64)),
                dtype=NAMES[str(table.get("dtype", "float32")).removeprefix("torch.")],
                weights=frozenset(str(name) for name in table["weights"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the quantization in training.json is not complete ({error})") from None
        if found.quant_type not in ("nf4", "fp4") or found.blocksize not in BLOCKS:
            raise ModelError(f"unknown quantization {found.quant_type} in blocks of {found.blocksize}")
        return found


class Dequantized(Deferred):
    """A weight after the round trip through 4 bits, as float32 values of `how.dtype`'s precision.

    Quantizing goes over row chunks and keeps the codes (half a byte per value) and block maxima of the whole tensor,
    because the second quantization needs the mean of all maxima; then rows are dequantized as they are asked for.
    """

    def __init__(self, base: Deferred, how: FourBit, chunk_bytes: int = 16 << 20) -> None:
        self.base, self.how, self._chunk_bytes = base, how, chunk_bytes
        self.name, self.shape, self.dtype = base.name, base.shape, how.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        codes, absmax = self._quantized()
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        step = rows or self.rows_for()
        for at in range(start, stop, step):
            yield self._values(codes, absmax, at, min(at + step, stop))

    def _quantized(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Packed codes (two per byte) and the float32 block maxima as the forward pass sees them."""
        import torch

        functional = imported("bitsandbytes").functional
        how = self.how
        codes, maxima = [], []
        for chunk in self.base.chunks(self._aligned_rows()):
            values = chunk.to(torch_dtype(how.dtype))
            packed, state = functional.quantize_4bit(values, blocksize=how.blocksize, quant_type=how.quant_type)
            codes.append(packed.reshape(-1))
            maxima.append(state.absmax)
        absmax = torch.cat(maxima)
        if how.double_quant:
            offset = absmax.mean()
            small, state = functional.quantize_blockwise(absmax - offset, blocksize=_NESTED_BLOCK)
            absmax = functional.dequantize_blockwise(small, state) + offset
        return torch.cat(codes), absmax.float()

    def _aligned_rows(self) -> int:
        """Rows of a chunk that ends where a block of values ends; the last chunk may end anywhere."""
        width = self.numel // self.n_rows
        unit = self.how.blocksize // math.gcd(width, self.how.blocksize)
        wanted = max(1, self._chunk_bytes // max(1, width * SIZES["F32"]))
        return max(unit, wanted - wanted % unit)

    def _values(self, codes: torch.Tensor, absmax: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Rows start:stop, dequantized from the blocks that hold them."""
        how, width = self.how, self.numel // self.n_rows
        block, first, last = how.blocksize, start * width, stop * width
        begin, end = first // block, -(-last // block)
        count = min(end * block, self.numel) - begin * block
        packed = codes[begin * block // 2 : -(-(begin * block + count) // 2)]
        values = values_of(packed, absmax[begin:end], count, block, how.quant_type, how.dtype)
        return values[first - begin * block : last - begin * block].reshape(stop - start, *self.shape[1:])


def values_of(
    codes: torch.Tensor, absmax: torch.Tensor, count: int, block: int, quant_type: str, dtype: str
) -> torch.Tensor:
    """bitsandbytes' values of `count` packed codes (two per byte, from the start of a block on), flat, as `dtype`.

    absmax: float32, one per block. Used here and by `fourbit`.
    """
    functional = imported("bitsandbytes").functional
    state = functional.QuantState(
        absmax=absmax.contiguous(),
        shape=(count // block, block) if count % block == 0 else (count,),
        blocksize=block,
        quant_type=quant_type,
        dtype=torch_dtype(dtype),
    )
    values: torch.Tensor = functional.dequantize_4bit(codes.reshape(-1, 1).contiguous(), state)
    return values.reshape(-1)
