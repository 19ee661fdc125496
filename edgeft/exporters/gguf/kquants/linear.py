"""Q8_0: x ~ d level, levels -127..127, blocks of 32. Nothing is searched: d is the largest magnitude / 127. Part of the
kernels."""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import BOUND, inner, nearest, put_half, to_half
from edgeft.exporters.gguf.kquants.memory import load, store, store_bytes
from edgeft.exporters.gguf.kquants.room import ODD, SCALES, WHOLE_SCALES, X
from edgeft.exporters.gguf.kquants.tile import mark
from edgeft.exporters.gguf.kquants.values import ROUNDER, bits, floats, magnitude, select

SIZE = 32


@inner
def scale_q8_0(t):
    """d of 16 blocks at `SCALES`, and what their values are multiplied with at `WHOLE_SCALES`."""
    zero, one = floats(0), floats(1)
    most = zero
    for i in range(SIZE):
        size = magnitude(load(t, X + 16 * i))
        most = select(size > most, size, most)
    scale = most / floats(127)
    inverse = select(scale == zero, zero, one / scale)
    store(t, SCALES, scale)
    store(t, WHOLE_SCALES, inverse)
    mark(t, select(inverse < floats(BOUND), zero, one))


@inner
def _rounded(value):
    """The nearest integer of |value| < 2^22, halves away from zero as C's roundf, in the last bits of a float."""
    size = magnitude(value)
    near = nearest(size)
    near = select(size - near == floats(0.5), near + floats(1), near)
    return bits(select(value < floats(0), -near, near) + floats(ROUNDER))


@inner
def pack_q8_0(t, lane, rows, start, out, at):
    """d and 32 levels. 34 bytes."""
    half = to_half(t[SCALES + lane])
    put_half(out, at, half)
    inverse = floats(t[WHOLE_SCALES + lane])
    for i in range(0, SIZE, 16):
        store_bytes(out, at + 2 + i, _rounded(load(rows, start + i) * inverse))
    return t[ODD + lane] != 0 or (half & 0x7FFF) >= 0x7C00
