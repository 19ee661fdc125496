"""Q4_K, Q5_K and Q2_K: x ~ d scale_j level - dmin minimum_j in sub-block j. Part of the kernels.

The three differ in numbers (size of a sub-block, levels, steps of the search) and in how they are packed.
"""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import (
    clamp,
    inner,
    nearest_any,
    nearest_int,
    put_half,
)
from edgeft.exporters.gguf.kquants.lanes import ABREAST
from edgeft.exporters.gguf.kquants.memory import load, store, store_bytes
from edgeft.exporters.gguf.kquants.room import (
    BLOCK_MINIMUM,
    BLOCK_SCALE,
    HALVES,
    LEVELS,
    MINIMUM_HALVES,
    MINIMUMS,
    ODD,
    SCALES,
    SUMS,
    WHOLE_MINIMUMS,
    WHOLE_SCALES,
    D,
    M,
    W,
    X,
)
from edgeft.exporters.gguf.kquants.search import search_offset, search_positive
from edgeft.exporters.gguf.kquants.tile import (
    mark,
    mark_abreast,
    mark_zeros,
    settle,
    squares,
    weigh_by_importance,
    weigh_by_magnitude,
    weigh_by_mean,
)
from edgeft.exporters.gguf.kquants.values import abreast, floats, integers, pairs, select, select_int

SIZE = 256


@inner
def scale_offset(t, important, n, top, top_scale, steps, scale_steps, two_bits):
    """Scales and minimums of all sub-blocks (of n values) of a tile, and the integers 0..top_scale for them.

    steps, scale_steps: numerators of the inverse scales that the two searches try (`formats`); two_bits: Q2_K, which
    weighs otherwise, and counts absolute errors when there is no importance.
    """
    parts = SIZE // n
    sigma2 = floats(0)
    if important:
        total = squares(t, X, SIZE)
        sigma2 = total / floats(SIZE) if two_bits else (floats(2) * total) / floats(SIZE)
    for part in range(0, parts, ABREAST):
        start = 16 * n * part
        for side in range(ABREAST):
            here, to, width = start + 16 * n * side, W + 16 * side, 16 * ABREAST
            if important:
                store(t, SUMS + 16 * (part + side), weigh_by_importance(t, here, n, to, width, sigma2))
            elif two_bits:
                weigh_by_magnitude(t, here, n, to, width)
            else:
                weigh_by_mean(t, here, n, to, width)
        scale, minimum, odd = search_offset(abreast(1), t, X + start, 16 * n, n, steps, top, two_bits and not important)
        store(t, SCALES + 16 * part, scale)
        store(t, MINIMUMS + 16 * part, minimum)
        mark_abreast(t, odd)
    if important:
        _round_by_error(t, parts, scale_steps, top_scale)
    else:
        _round_by_largest(t, SCALES, parts, top_scale, WHOLE_SCALES, BLOCK_SCALE)
        _round_by_largest(t, MINIMUMS, parts, top_scale, WHOLE_MINIMUMS, BLOCK_MINIMUM)
    settle(t, parts, BLOCK_MINIMUM, WHOLE_MINIMUMS, MINIMUM_HALVES, M)
    settle(t, parts, BLOCK_SCALE, WHOLE_SCALES, HALVES, D)
    mark_zeros(t, parts)


@inner
def _round_by_error(t, parts, steps, top):
    """The integers whose weighted error is small, of scales and minimums at a time: with an importance matrix."""
    for part in range(parts):
        weight = load(t, SUMS + 16 * part)
        store(t, W + 32 * part, weight)
        store(t, W + 32 * part + 16, weight)
    both, odd = search_positive(pairs(1), t, SCALES, MINIMUMS - SCALES, parts, steps, top)
    store(t, BLOCK_SCALE, both)
    for part in range(parts):
        store(t, WHOLE_SCALES + 16 * part, load(t, LEVELS + 32 * part))
        store(t, WHOLE_MINIMUMS + 16 * part, load(t, LEVELS + 32 * part + 16))
    mark_abreast(t, odd)


@inner
def _round_by_largest(t, found, parts, top, whole, block):
    """Integers 0..top of the largest: without an importance matrix. A negative one is for ggml (its byte wraps)."""
    zero = floats(0)
    most = odd = zero
    for part in range(parts):
        value = load(t, found + 16 * part)
        most = select(value > most, value, most)
        odd = select(value >= zero, odd, floats(1))
    inverse = select(most > zero, floats(top) / most, zero)
    for part in range(parts):
        value = nearest_any(inverse * load(t, found + 16 * part))
        store(t, whole + 16 * part, clamp(value, zero, floats(top)))
    store(t, block, most / floats(top))
    mark(t, odd)


@inner
def put_halves(t, lane, out, at_scale, at_minimum):
    """Write d and dmin of a block."""
    put_half(out, at_scale, int(t[HALVES + lane]))
    put_half(out, at_minimum, int(t[MINIMUM_HALVES + lane]))


@inner
def put_six_bits(t, lane, out, at):
    """Q4_K and Q5_K: 8 scales and 8 minimums of 6 bits in 12 bytes. The first four of each are bytes whose upper two
    bits hold the upper bits of the others."""
    for part in range(4):
        scale, minimum = int(t[WHOLE_SCALES + 16 * part + lane]), int(t[WHOLE_MINIMUMS + 16 * part + lane])
        later, least = int(t[WHOLE_SCALES + 16 * (part + 4) + lane]), int(t[WHOLE_MINIMUMS + 16 * (part + 4) + lane])
        out[at + part] = scale | (later >> 4) << 6
        out[at + part + 4] = minimum | (least >> 4) << 6
        out[at + part + 8] = (later & 15) | (least & 15) << 4


@inner
def levels_of(t, lane, rows, at, part, top):
    """The levels 0..top of 16 values of a sub-block."""
    here = 16 * lane + part
    found = nearest_int((load(rows, at) + floats(t[M + here])) / floats(t[D + here]))
    found = select_int(found < integers(top), found, integers(top))
    return select_int(found > integers(0), found, integers(0))


@inner
def pack_q4_k(t, lane, rows, start, out, at):
    """d, dmin, 12 bytes of scales, 128 of levels: sub-blocks 2j and 2j + 1 share bytes. 144 bytes."""
    put_halves(t, lane, out, at, at + 2)
    put_six_bits(t, lane, out, at + 4)
    for part in range(0, 8, 2):
        for i in range(0, 32, 16):
            here = start + 32 * part + i
            low, high = levels_of(t, lane, rows, here, part, 15), levels_of(t, lane, rows, here + 32, part + 1, 15)
            store_bytes(out, at + 16 + 16 * part + i, low | (high << integers(4)))
    return t[ODD + lane] != 0


@inner
def pack_q5_k(t, lane, rows, start, out, at):
    """As Q4_K, with 32 bytes before the levels: bit j of byte i is the fifth bit of value i of sub-block j. 176 B."""
    put_halves(t, lane, out, at, at + 2)
    put_six_bits(t, lane, out, at + 4)
    for i in range(0, 32, 16):
        fifth = integers(0)
        for part in range(0, 8, 2):
            here = start + 32 * part + i
            low, high = levels_of(t, lane, rows, here, part, 31), levels_of(t, lane, rows, here + 32, part + 1, 31)
            nibbles = (low & integers(15)) | ((high & integers(15)) << integers(4))
            store_bytes(out, at + 48 + 16 * part + i, nibbles)
            fifth = fifth | ((low >> integers(4)) << integers(part)) | ((high >> integers(4)) << integers(part + 1))
        store_bytes(out, at + 16 + i, fifth)
    return t[ODD + lane] != 0


@inner
def pack_q2_k(t, lane, rows, start, out, at):
    """16 bytes of scale and minimum, 64 of levels (a byte holds values 32 apart), d, dmin. 84 bytes."""
    put_halves(t, lane, out, at + 80, at + 82)
    for part in range(16):
        whole = int(t[WHOLE_SCALES + 16 * part + lane]) | int(t[WHOLE_MINIMUMS + 16 * part + lane]) << 4
        out[at + part] = whole
    for half in range(0, 256, 128):
        for i in range(0, 32, 16):
            packed = integers(0)
            for quarter in range(4):
                here = half + 32 * quarter + i
                packed = packed | (levels_of(t, lane, rows, start + here, here // 16, 3) << integers(2 * quarter))
            store_bytes(out, at + 16 + half // 4 + i, packed)
    return t[ODD + lane] != 0
