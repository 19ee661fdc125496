"""What the searches and the packing share: rounding to integers as ggml does it, 16-bit floats, and the decorators.

Every function here is compiled into the kernels.
"""

from __future__ import annotations

import numpy as np  # noqa: TID253
from numba import njit  # noqa: TID253
from numba.core import types  # noqa: TID253
from numba.extending import intrinsic  # noqa: TID253

from edgeft.exporters.gguf.kquants.values import ROUNDER, bits, floats, integers, like, mantissa, select

# error_model: a division by zero is what the processor makes of it, as in C.
inner = njit(nogil=True, error_model="numpy", _nrt=False)

BOUND = np.float32(2.0**100)  # of what the fast path takes: no product or quotient of its scales leaves float32
BOUND_BITS = int(BOUND.view(np.int32))
EPSILON = np.float32(1e-15)  # GROUP_MAX_EPS: what ggml takes for zero


@inner
def nearest(value):
    """The nearest integer (ties to even) of |value| < 2^22, as a float."""
    return (value + like(value, ROUNDER)) - like(value, ROUNDER)


@inner
def nearest_int(value):
    """ggml's nearest_int of any value, also where it wraps: the mantissa bits of value + 1.5 * 2^23."""
    return (bits(value + floats(ROUNDER)) & integers(0x7FFFFF)) - integers(0x400000)


@inner
def nearest_any(value):
    """`nearest_int` as a float: where the sum has left the range of 2^23 to 2^24, the wrapped mantissa."""
    return mantissa(value + like(value, ROUNDER))


@inner
def clamp(value, low, high):
    """`value` between `low` and `high`."""
    value = select(value < high, value, high)
    return select(value > low, value, low)


@intrinsic
def float_bits(typingctx, value):
    """The bits of a float32 as uint32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), codegen


@intrinsic
def bits_float(typingctx, value):
    """The float32 of uint32 bits."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), codegen


@inner
def to_half(value):
    """The bits of the float16 nearest to a float32 that is not NaN (ties to even, IEEE 754)."""
    raw = np.int64(float_bits(np.float32(value)))
    sign = (raw >> 16) & 0x8000
    size = raw & 0x7FFFFFFF
    if size >= 0x47800000:  # 2^16 and more
        return sign | 0x7C00
    if size < 0x38800000:  # below 2^-14: denormal, in steps of 2^-24
        shift = 126 - (size >> 23)
        if shift > 24:
            return sign
        whole = (size & 0x7FFFFF) | 0x800000
        result = whole >> shift
        rest = whole & ((1 << shift) - 1)
        middle = 1 << (shift - 1)
    else:
        result = (size - 0x38000000) >> 13
        rest = size & 0x1FFF
        middle = 0x1000
    if rest > middle or (rest == middle and result & 1):
        result += 1
    return sign | result


@inner
def from_half(half):
    """The float32 of float16 bits that are finite."""
    size = bits_float(np.uint32((half & 0x7FFF) << 13)) * np.float32(2.0**112)
    return -size if half & 0x8000 else size


@inner
def put_half(out, at, half):
    """Write 16 bits, low byte first."""
    out[at] = half & 0xFF
    out[at + 1] = half >> 8
