"""Q6_K and Q3_K: x ~ d scale_j level, levels on both sides of zero, 16 sub-blocks of 16. Part of the kernels."""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import (
    EPSILON,
    clamp,
    inner,
    nearest_any,
    nearest_int,
    put_half,
)
from edgeft.exporters.gguf.kquants.lanes import ABREAST
from edgeft.exporters.gguf.kquants.memory import load, store, store_bytes
from edgeft.exporters.gguf.kquants.room import BLOCK_SCALE, HALVES, ODD, SCALES, SUMS, WHOLE_SCALES, D, W, X
from edgeft.exporters.gguf.kquants.search import largest, search_by_turns, search_symmetric
from edgeft.exporters.gguf.kquants.tile import (
    mark_zeros,
    settle,
    squares,
    weigh_by_column,
    weigh_by_importance,
    weigh_by_square,
)
from edgeft.exporters.gguf.kquants.values import abreast, floats, integers, select, select_int

SIZE, PART, PARTS = 256, 16, 16


@inner
def scale_q6_k(t, important, steps):
    """Scales of all sub-blocks, and the integers -128..127 for them: of the one of largest magnitude, which is -128."""
    for part in range(0, PARTS, ABREAST):
        start = 16 * PART * part
        for side in range(ABREAST):
            if important:
                weigh_by_column(t, start + 16 * PART * side, PART, W + 16 * side, 16 * ABREAST)
            else:
                weigh_by_square(t, start + 16 * PART * side, PART, W + 16 * side, 16 * ABREAST)
        scale, _ = search_symmetric(abreast(1), t, X + start, 16 * PART, PART, steps, 32)
        store(t, SCALES + 16 * part, scale)
    _round_by_largest(t, 128)
    _settle(t)


@inner
def scale_q3_k(t, important, steps, scale_steps):
    """Scales of all sub-blocks, and the integers -32..31 for them."""
    sigma2 = (floats(2) * squares(t, X, SIZE)) / floats(SIZE) if important else floats(0)
    for part in range(0, PARTS, ABREAST):
        start = 16 * PART * part
        if important:
            for side in range(ABREAST):
                here, to = start + 16 * PART * side, W + 16 * side
                store(t, SUMS + 16 * (part + side), weigh_by_importance(t, here, PART, to, 16 * ABREAST, sigma2))
            scale, _ = search_symmetric(abreast(1), t, X + start, 16 * PART, PART, steps, 4)
        else:
            scale = search_by_turns(abreast(1), t, X + start, 16 * PART, PART, 4)
        store(t, SCALES + 16 * part, scale)
    if important:
        for part in range(PARTS):
            store(t, W + 16 * part, load(t, SUMS + 16 * part))
        scale, inverse = search_symmetric(floats(1), t, SCALES, 0, PARTS, scale_steps, 32)
        store(t, BLOCK_SCALE, scale)
        _round(t, inverse, 32)
    else:
        _round_by_largest(t, 32)
    _settle(t)


@inner
def _round_by_largest(t, top):
    """Integers -top..top-1 of the scale of largest magnitude, which is -top; a block of zeros is for ggml."""
    most, size = largest(floats(1), t, SCALES, 0, PARTS)
    inverse = floats(-top) / most
    store(t, BLOCK_SCALE, select(size < floats(EPSILON), floats(0), floats(1) / inverse))
    _round(t, inverse, top)


@inner
def _round(t, inverse, top):
    for part in range(PARTS):
        whole = nearest_any(inverse * load(t, SCALES + 16 * part))
        store(t, WHOLE_SCALES + 16 * part, clamp(whole, floats(-top), floats(top - 1)))


@inner
def _settle(t):
    """d of all blocks in 16 bits, and what it makes of their sub-blocks."""
    settle(t, PARTS, BLOCK_SCALE, WHOLE_SCALES, HALVES, D)
    mark_zeros(t, PARTS)


@inner
def levels_of(t, lane, rows, start, here, top):
    """The levels of 16 values from `here` on, plus `top`: 0..2 top - 1."""
    found = nearest_int(load(rows, start + here) / floats(t[D + 16 * lane + here // 16])) + integers(top)
    found = select_int(found < integers(2 * top - 1), found, integers(2 * top - 1))
    return select_int(found > integers(0), found, integers(0))


@inner
def pack_q6_k(t, lane, rows, start, out, at):
    """128 bytes of lower nibbles, 64 of upper pairs of bits (a byte holds values 32 apart), 16 scales, d. 210 bytes."""
    put_half(out, at + 208, int(t[HALVES + lane]))
    for part in range(16):
        out[at + 192 + part] = int(t[WHOLE_SCALES + 16 * part + lane]) & 0xFF
    for half in range(0, 256, 128):
        for i in range(0, 32, 16):
            here = half + i
            first, second = levels_of(t, lane, rows, start, here, 32), levels_of(t, lane, rows, start, here + 32, 32)
            third, fourth = (
                levels_of(t, lane, rows, start, here + 64, 32),
                levels_of(t, lane, rows, start, here + 96, 32),
            )
            low = integers(15)
            store_bytes(out, at + half // 2 + i, (first & low) | ((third & low) << integers(4)))
            store_bytes(out, at + half // 2 + 32 + i, (second & low) | ((fourth & low) << integers(4)))
            upper = (first >> integers(4)) | ((second >> integers(4)) << integers(2))
            upper = upper | ((third >> integers(4)) << integers(4)) | ((fourth >> integers(4)) << integers(6))
            store_bytes(out, at + 128 + half // 4 + i, upper)
    return t[ODD + lane] != 0


@inner
def pack_q3_k(t, lane, rows, start, out, at):
    """32 bytes of third bits (bit j of byte i: value 32 j + i), 64 of pairs of bits, 12 of scales, d. 110 bytes."""
    put_half(out, at + 108, int(t[HALVES + lane]))
    for part in range(4):
        uppers = 0
        for group in range(4):
            uppers |= (int(t[WHOLE_SCALES + 16 * (part + 4 * group) + lane]) + 32 >> 4) << 2 * group
        out[at + 104 + part] = uppers
    for part in range(8):
        early, late = int(t[WHOLE_SCALES + 16 * part + lane]) + 32, int(t[WHOLE_SCALES + 16 * (part + 8) + lane]) + 32
        out[at + 96 + part] = (early & 15) | (late & 15) << 4
    for i in range(0, 32, 16):
        thirds = integers(0)
        for half in range(2):
            pairs = integers(0)
            for quarter in range(4):
                found = levels_of(t, lane, rows, start, 128 * half + 32 * quarter + i, 4)
                pairs = pairs | ((found & integers(3)) << integers(2 * quarter))
                thirds = thirds | ((found >> integers(2)) << integers(4 * half + quarter))
            store_bytes(out, at + 32 + 32 * half + i, pairs)
        store_bytes(out, at + i, thirds)
    return t[ODD + lane] != 0
