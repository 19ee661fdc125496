"""A bitsandbytes 4-bit checkpoint as `Weights`: dequantized tensor by tensor, row chunk by row chunk, when read.

Read by `merged`. The form is that of bitsandbytes' `QuantState.as_dict(packed=True)`: beside the packed `NAME` lie
`NAME.absmax`, `NAME.quant_map`, with double quantization `NAME.nested_absmax` and `NAME.nested_quant_map`, and
`NAME.quant_state.bitsandbytes__nf4` (or fp4): JSON with shape, dtype, block sizes. Nothing of it is trusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.extras import imported
from edgeft.weights.deferred import Deferred
from edgeft.weights.dequantized import BLOCKS, NAMES, values_of
from edgeft.weights.dtypes import SIZES, torch_dtype

if TYPE_CHECKING:
    import torch

_STATE = ".quant_state.bitsandbytes__"
_PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
_MAX_STATE = 4096  # bytes of JSON


@dataclass(frozen=True)
class State:
    """How one weight is packed. `dtype` ("BF16", …) is the one it had before; `offset`: of the nested block maxima."""

    quant_type: str
    shape: tuple[int, ...]
    dtype: str
    blocksize: int
    nested_blocksize: int = 0
    offset: float = 0.0

    @property
    def blocks(self) -> int:
        return -(-math.prod(self.shape) // self.blocksize)


def check_quantization(config: Mapping[str, Any], where: Path) -> None:
    """A `ModelError` for a quantized checkpoint that is not bitsandbytes' 4 bits, by the name of its method."""
    table = config.get("quantization_config")
    if not table:
        return
    table = table if isinstance(table, Mapping) else {}
    four = table.get("load_in_4bit") or table.get("_load_in_4bit")
    method = str(table.get("quant_method") or ("bitsandbytes" if four or table.get("load_in_8bit") else "unknown"))
    if method == "bitsandbytes" and four:
        return
    if method in ("bitsandbytes", "bitsandbytes_8bit"):
        method = "bitsandbytes 8-bit"
    raise ModelError(
        f"the base checkpoint is quantized ({method[:60]}); edgeft reads 16- and 32-bit and bitsandbytes 4-bit weights",
        where=where,
        do="give the model it was quantized from, or save it dequantized: model.dequantize(); model.save_pretrained()",
    )


def is_four_bit(tensors: Mapping[str, Deferred]) -> bool:
    return any(_STATE in name for name in tensors)


def unpacked(tensors: Mapping[str, Deferred], where: Path) -> dict[str, Deferred]:
    """The checkpoint's weights in the dtype they had before they were quantized; others as they are. Reads and checks
    the states now (some hundred bytes each), no values."""
    states: dict[str, Deferred] = {}
    for name in tensors:
        if _STATE in name:
            states[name.partition(_STATE)[0]] = tensors[name]
    if not states:
        raise ModelError("config.json says 4 bits, but no weight has a quant_state", where=where)
    found: dict[str, Deferred] = {}
    for name, tensor in tensors.items():
        owner = next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name.partition(_STATE)[0])
        if name in states:
            found[name] = _packed(tensors, name, states[name], where)
        elif owner == name or owner not in states:
            found[name] = tensor
    lost = sorted(set(states) - set(found))
    if lost:
        raise ModelError(f"the checkpoint has a quant_state of {lost[0]!r}, and not the weight", where=where)
    return found


def _packed(tensors: Mapping[str, Deferred], name: str, blob: Deferred, where: Path) -> FourBitStored:
    state = _state(blob, name, where)
    weight, absmax = tensors[name], tensors.get(name + ".absmax")
    needed = -(-math.prod(state.shape) // 2)
    if weight.nbytes != needed:
        raise _wrong(name, f"it has {weight.nbytes} bytes, the shape {list(state.shape)} needs {needed}", where)
    if absmax is None or absmax.numel != state.blocks:
        count = absmax.numel if absmax else 0
        raise _wrong(
            name, f"it has {count} block maxima, {state.blocks} blocks of {state.blocksize} need one each", where
        )
    if not state.nested_blocksize:
        if absmax.dtype not in ("F32", "F16", "BF16"):
            raise _wrong(name, f"its block maxima have the dtype {absmax.dtype}", where)
        return FourBitStored(name, weight, state, absmax)
    maxima, code = tensors.get(name + ".nested_absmax"), tensors.get(name + ".nested_quant_map")
    count = -(-state.blocks // state.nested_blocksize)
    if absmax.dtype != "U8" or maxima is None or maxima.numel != count or code is None or code.numel != 256:
        raise _wrong(name, "its block maxima are quantized, and what they need is not there or of another size", where)
    return FourBitStored(name, weight, state, absmax, maxima, code)


def _state(blob: Deferred, name: str, where: Path) -> State:
    """The JSON of a quant_state, checked."""
    if blob.dtype != "U8" or blob.nbytes > _MAX_STATE:
        raise _wrong(name, f"its quant_state has {blob.nbytes} bytes of {blob.dtype}", where)
    try:
        table = json.loads(bytes(blob.read().tolist()).decode("utf-8"))
        if not isinstance(table, dict):
            raise TypeError("it is not a table")
        nested = table.get("nested_blocksize") is not None
        state = State(
            quant_type=str(table["quant_type"]),
            shape=tuple(table["shape"]),
            dtype=NAMES[str(table["dtype"]).removeprefix("torch.")],
            blocksize=table["blocksize"],
            nested_blocksize=table["nested_blocksize"] if nested else 0,
            offset=float(table["nested_offset"]) if nested else 0.0,
        )
        numbers = [*state.shape, state.blocksize, state.nested_blocksize]
    except KeyError as error:
        raise _wrong(name, f"its quant_state does not know its {error}", where) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _wrong(name, f"its quant_state cannot be read ({error})", where) from None
    whole = all(type(number) is int and 0 <= number < 1 << 40 for number in numbers) and 0 < len(state.shape) <= 8
    if not whole or not math.isfinite(state.offset) or state.blocksize not in BLOCKS or state.nested_blocksize < 0:
        raise _wrong(name, "the numbers of its quant_state are absurd", where)
    if state.quant_type not in ("nf4", "fp4") or not blob.name.endswith(state.quant_type):
        raise _wrong(name, f"its quant_state is of the type {state.quant_type[:40]!r}", where)
    return state


def _wrong(name: str, what: str, where: Path) -> ModelError:
    return ModelError(
        f"the 4-bit weight {name[:200]!r} is damaged: {what}", where=where, do="copy or download the checkpoint again"
    )


class FourBitStored(Deferred):
    """A packed weight; its values are those of bitsandbytes' `dequantize_4bit`, bit for bit.

    The block maxima (a byte or four per block of values) are read whole, the packed codes row chunk by row chunk.
    """

    def __init__(
        self,
        name: str,
        packed: Deferred,
        state: State,
        absmax: Deferred,
        nested_absmax: Deferred | None = None,
        nested_code: Deferred | None = None,
    ) -> None:
        self.name, self.shape, self.dtype = name, state.shape, state.dtype
        self.packed, self.state, self.absmax = packed, state, absmax
        self.nested_absmax, self.nested_code = nested_absmax, nested_code

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        absmax = self._maxima()
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        step = rows or self.rows_for()
        width = self.numel // max(1, self.n_rows)
        for at in range(start, stop, step):
            first, last = at * width, min(at + step, stop) * width
            yield self._values(absmax, first, last).reshape(-1, *self.shape[1:])

    def _maxima(self) -> torch.Tensor:
        """float32 maxima of all blocks."""
        functional = imported("bitsandbytes").functional
        absmax = self.absmax.read().reshape(-1)
        if self.nested_absmax is None or self.nested_code is None:
            return absmax.float()
        state = functional.QuantState(
            absmax=self.nested_absmax.read().reshape(-1).float(),
            code=self.nested_code.read().reshape(-1).float(),
            blocksize=self.state.nested_blocksize,
            dtype=torch_dtype("F32"),
        )
        maxima: torch.Tensor = functional.dequantize_blockwise(absmax, state)
        return maxima.add_(self.state.offset)

    def _values(self, absmax: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """The values first:last in the order of rows, from the blocks that hold them."""
        import torch

        block = self.state.blocksize
        begin, end = first // block, -(-last // block)
        count = min(end * block, self.numel) - begin * block
        size = SIZES[self.packed.dtype]  # packed bytes may lie in a file as numbers of another dtype
        low, high = begin * block // 2, -(-(begin * block + count) // 2)
        stored = self.packed.rows(low // size, -(-high // size)).reshape(-1).view(torch.uint8)
        codes = stored[low % size : low % size + high - low]
        values = values_of(codes, absmax[begin:end], count, block, self.state.quant_type, self.dtype)
        return values[first - begin * block : last - begin * block]
