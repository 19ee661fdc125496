"""IQ4_XS and IQ4_NL: x ~ scale value, 16 values that are not evenly spaced. Part of the kernels.

The nearest value is found by comparing with the 15 middles between neighbours. ggml compares the distances to both
neighbours in float32; they are exact where it matters, next to a middle, so the outcome is the same.
"""

from __future__ import annotations

import numpy as np  # noqa: TID253

from edgeft.exporters.gguf.kquants.arithmetic import (
    BOUND,
    EPSILON,
    clamp,
    inner,
    nearest_any,
    put_half,
    to_half,
)
from edgeft.exporters.gguf.kquants.memory import load, store, store_bytes
from edgeft.exporters.gguf.kquants.room import BLOCK_SCALE, ODD, SCALES, WHOLE_SCALES, W, X
from edgeft.exporters.gguf.kquants.search import largest
from edgeft.exporters.gguf.kquants.tile import mark, squares, weigh_by_importance, weigh_by_square
from edgeft.exporters.gguf.kquants.values import floats, integers, magnitude, select, select_int

VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32)
MIDDLES = (VALUES[:-1] + VALUES[1:]) / np.float32(2)
PART = 32


@inner
def nearest_value(x):
    """The value nearest to x."""
    found = floats(VALUES[0])
    for lower in range(15):
        found = select(x >= floats(MIDDLES[lower]), floats(VALUES[lower + 1]), found)
    return found


@inner
def nearest_index(x):
    """Which value is nearest to x: 0..15."""
    found = integers(0)
    for lower in range(15):
        found = select_int(x >= floats(MIDDLES[lower]), integers(lower + 1), found)
    return found


@inner
def search_values(t, xs, ws, steps):
    """x ~ scale value in 32 elements: the best of the steps' scales, each by weighted least squares. Returns the scale.

    `steps`: numerators of the inverse scales; of the first it is 1 / (largest / numerator), whose last bit may differ.
    """
    zero = floats(0)
    most, size = largest(floats(1), t, xs, 0, PART)
    scale = best = zero
    for step in range(len(steps)):
        inverse = floats(1) / ((-most) / floats(steps[0])) if step == 0 else floats(steps[step]) / most
        sum_qx = sum_q2 = zero
        for i in range(PART):
            x = load(t, xs + 16 * i)
            value = nearest_value(inverse * x)
            weighted = load(t, ws + 16 * i) * value
            sum_qx = sum_qx + weighted * x
            sum_q2 = sum_q2 + weighted * value
        better = sum_q2 > zero
        if step > 0:
            better = better & (sum_qx * sum_qx > best * sum_q2)
        scale = select(better, sum_qx / sum_q2, scale)
        best = select(better, scale * sum_qx, best)
    odd = select((magnitude(scale) > floats(1) / floats(BOUND)) | (scale == zero), zero, floats(1))
    nothing = size < floats(EPSILON)
    mark(t, select(nothing, zero, odd))
    return select(nothing, zero, scale)


@inner
def scale_nonlinear(t, important, size, steps):
    """The scales of all sub-blocks of 32 in blocks of `size` values."""
    sigma2 = squares(t, X, size) * floats(2 / size)
    for part in range(size // PART):
        start = 16 * PART * part
        if important:
            weigh_by_importance(t, start, PART, W, 16, sigma2)
        else:
            weigh_by_square(t, start, PART, W, 16)
        store(t, SCALES + 16 * part, search_values(t, X + start, W, steps))


@inner
def scale_iq4_xs(t, important, steps):
    """As above, and the integers -32..31 of the one of largest magnitude, which is -32."""
    scale_nonlinear(t, important, 256, steps)
    zero, one = floats(0), floats(1)
    most, _ = largest(floats(1), t, SCALES, 0, 8)
    scale = (-most) / floats(32)
    store(t, BLOCK_SCALE, scale)
    nothing = scale == zero
    mark(t, select((magnitude(scale) > one / floats(BOUND)) | nothing, zero, one))
    inverse = select(nothing, zero, one / scale)
    for part in range(8):
        whole = nearest_any(inverse * load(t, SCALES + 16 * part))
        store(t, WHOLE_SCALES + 16 * part, clamp(whole, floats(-32), floats(31)))


@inner
def _inverse(scale):
    return np.float32(1) / scale if scale != 0 else np.float32(0)


@inner
def _put_levels(rows, start, inverse, out, at):
    """16 bytes: values 0..15 in the lower nibbles, 16..31 in the upper."""
    low, high = (
        nearest_index(floats(inverse) * load(rows, start)),
        nearest_index(floats(inverse) * load(rows, start + 16)),
    )
    store_bytes(out, at, low | (high << integers(4)))


@inner
def pack_iq4_xs(t, lane, rows, start, out, at):
    """d, 2 bytes of upper pairs of bits of the scales, 4 of lower nibbles, 128 of levels. 136 bytes. The levels belong
    to the scale before it was rounded to 16 bits."""
    scale = t[BLOCK_SCALE + lane]
    half = to_half(scale)
    put_half(out, at, half)
    uppers = 0
    for part in range(8):
        whole = t[WHOLE_SCALES + 16 * part + lane]
        stored = int(whole) + 32
        uppers |= (stored >> 4) << 2 * part
        if part % 2:
            out[at + 4 + part // 2] |= (stored & 15) << 4
        else:
            out[at + 4 + part // 2] = stored & 15
        _put_levels(rows, start + PART * part, _inverse(scale * whole), out, at + 8 + 16 * part)
    put_half(out, at + 2, uppers)
    return t[ODD + lane] != 0 or (half & 0x7FFF) >= 0x7C00


@inner
def pack_iq4_nl(t, lane, rows, start, out, at):
    """d and 16 bytes of levels. 18 bytes."""
    scale = t[SCALES + lane]
    half = to_half(scale)
    put_half(out, at, half)
    _put_levels(rows, start, _inverse(scale), out, at + 2)
    return t[ODD + lane] != 0 or (half & 0x7FFF) >= 0x7C00
