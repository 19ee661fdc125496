"""Q6_K and Q3_K: x ~ d scale_j level, levels on both sides of zero, 16 sub-blocks of 16. Part of the kernels."""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import (
    EPSILON,
    clamp,
    from_half,
    inner,
    nearest_any,
    nearest_int,
    put_half,
    to_half,
)
from edgeft.exporters.gguf.kquants.memory import load, store, store_bytes
from edgeft.exporters.gguf.kquants.room import BLOCK_SCALE, ODD, SCALES, SUMS, WHOLE_SCALES, D, W, X
from edgeft.exporters.gguf.kquants.search import largest, search_by_turns, search_symmetric
from edgeft.exporters.gguf.kquants.tile import squares, weigh_by_column, weigh_by_importance, weigh_by_square
from edgeft.exporters.gguf.kquants.values import floats, integers, pairs, select, select_int

SIZE, PART, PARTS = 256, 16, 16


@inner
def scale_q6_k(t, important, steps):
    """Scales of all sub-blocks, and the integers -128..127 for them: of the one of largest magnitude, which is -128."""
    for part in range(0, PARTS, 2):
        start = 16 * PART * part
        for half in range(2):
            if important:
                weigh_by_column(t, start + 16 * PART * half, PART, W + 16 * half, 32)
            else:
                weigh_by_square(t, start + 16 * PART * half, PART, W + 16 * half, 32)
        scale, _ = search_symmetric(pairs(1), t, X + start, 16 * PART, PART, steps, 32)
        store(t, SCALES + 16 * part, scale)
    _round_by_largest(t, 128)


@inner
def scale_q3_k(t, important, steps, scale_steps):
    """Scales of all sub-blocks, and the integers -32..31 for them."""
    sigma2 = (floats(2) * squares(t, X, SIZE)) / floats(SIZE) if important else floats(0)
    for part in range(0, PARTS, 2):
        start = 16 * PART * part
        if important:
            for half in range(2):
                here = start + 16 * PART * half
                store(t, SUMS + 16 * (part + half), weigh_by_importance(t, here, PART, W + 16 * half, 32, sigma2))
            scale, _ = search_symmetric(pairs(1), t, X + start, 16 * PART, PART, steps, 4)
        else:
            scale = search_by_turns(pairs(1), t, X + start, 16 * PART, PART, 4)
        store(t, SCALES + 16 * part, scale)
    if important:
        for part in range(PARTS):
            store(t, W + 16 * part, load(t, SUMS + 16 * part))
        scale, inverse = search_symmetric(floats(1), t, SCALES, 0, PARTS, scale_steps, 32)
        store(t, BLOCK_SCALE, scale)
        _round(t, inverse, 32)
    else:
        _round_by_largest(t, 32)


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
def put_scale(t, lane, out, at):
    """Write d of a block and fill `D` with what it makes of the sub-blocks. Returns whether the block is one for ggml
    (see `offset.put_halves`)."""
    half = to_half(t[BLOCK_SCALE + lane])
    put_half(out, at, half)
    odd = t[ODD + lane] != 0 or (half & 0x7FFF) >= 0x7C00
    d = from_half(half)
    for part in range(PARTS):
        t[D + part] = d * t[WHOLE_SCALES + 16 * part + lane]
        odd = odd or t[D + part] == 0
    return odd


@inner
def levels_of(t, rows, start, here, top):
    """The levels of 16 values from `here` on, plus `top`: 0..2 top - 1."""
    found = nearest_int(load(rows, start + here) / floats(t[D + here // 16])) + integers(top)
    found = select_int(found < integers(2 * top - 1), found, integers(2 * top - 1))
    return select_int(found > integers(0), found, integers(0))


@inner
def pack_q6_k(t, lane, rows, start, out, at):
    """128 bytes of lower nibbles, 64 of upper pairs of bits (a byte holds values 32 apart), 16 scales, d. 210 bytes."""
    odd = put_scale(t, lane, out, at + 208)
    for part in range(16):
        out[at + 192 + part] = int(t[WHOLE_SCALES + 16 * part + lane]) & 0xFF
    for half in range(0, 256, 128):
        for i in range(0, 32, 16):
            first, second = levels_of(t, rows, start, half + i, 32), levels_of(t, rows, start, half + i + 32, 32)
            third, fourth = levels_of(t, rows, start, half + i + 64, 32), levels_of(t, rows, start, half + i + 96, 32)
            low = integers(15)
            store_bytes(out, at + half // 2 + i, (first & low) | ((third & low) << integers(4)))
            store_bytes(out, at + half // 2 + 32 + i, (second & low) | ((fourth & low) << integers(4)))
            upper = (first >> integers(4)) | ((second >> integers(4)) << integers(2))
            upper = upper | ((third >> integers(4)) << integers(4)) | ((fourth >> integers(4)) << integers(6))
            store_bytes(out, at + 128 + half // 4 + i, upper)
    return odd


@inner
def pack_q3_k(t, lane, rows, start, out, at):
    """32 bytes of third bits (bit j of byte i: value 32 j + i), 64 of pairs of bits, 12 of scales, d. 110 bytes."""
    odd = put_scale(t, lane, out, at + 108)
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
                found = levels_of(t, rows, start, 128 * half + 32 * quarter + i, 4)
                pairs = pairs | ((found & integers(3)) << integers(2 * quarter))
                thirds = thirds | ((found >> integers(2)) << integers(4 * half + quarter))
            store_bytes(out, at + 32 + 32 * half + i, pairs)
        store_bytes(out, at + i, thirds)
    return odd
