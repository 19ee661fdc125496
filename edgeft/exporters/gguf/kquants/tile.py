"""A tile: 16 blocks of a tensor in work, and the way into it. Part of the kernels.

A *block* is what has a scale of its own in the file (256 values of a K-quant, 32 of IQ4_NL and Q8_0). Lane k of every
vector belongs to block k of the tile; a tile at the end of the data repeats its last block in the lanes left over.
"""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import BOUND_BITS, from_half, inner, to_half
from edgeft.exporters.gguf.kquants.memory import load, load_bfloat16, load_float16, store, transpose, turn
from edgeft.exporters.gguf.kquants.room import LEVELS, ODD, ROWS, TURN, Q, X
from edgeft.exporters.gguf.kquants.values import (
    bits,
    floats,
    integers,
    magnitude,
    select,
    select_int,
    square_root,
    width_of,
)

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2  # what a source holds: `singles`, or 16 bits a value in `words`


@inner
def fill(t, starts, singles, words, kind, importance, first, count, size):
    """Bring `count` blocks of `size` values, from block `first` on, into the tile. After it `starts` (int64 [16]) says
    where each lies in a row: in `singles`, or in `t` when it was converted. Marks blocks with values or importances
    that are not finite, or beyond 2^100."""
    if importance.size:
        for lane in range(16):
            starts[lane] = (first + min(lane, count - 1)) * size % importance.size
        for i in range(0, size, 16):
            transpose(importance, starts, i, t, Q + 16 * i)
    for lane in range(16):
        start = (first + min(lane, count - 1)) * size
        starts[lane] = start
        if kind == BFLOAT16:
            for i in range(0, size, 16):
                store(t, ROWS + lane * size + i, load_bfloat16(words, start + i))
        elif kind == FLOAT16:
            for i in range(0, size, 16):
                store(t, ROWS + lane * size + i, load_float16(words, start + i))
    if kind != FLOAT32:
        for lane in range(16):
            starts[lane] = ROWS + lane * size
    for i in range(0, size, 16):
        if kind == FLOAT32:
            transpose(singles, starts, i, t, X + 16 * i)
        else:
            transpose(t, starts, i, t, X + 16 * i)
    odd = _beyond(t, X, size)
    if importance.size:
        odd = odd + _beyond(t, Q, size)
    store(t, ODD, odd)


@inner
def _beyond(t, start, n):
    """1 in the lanes where a value is not finite or beyond 2^100: such a magnitude's bits are a larger integer."""
    most = integers(0)
    for i in range(n):
        size = bits(magnitude(load(t, start + 16 * i)))
        most = select_int(size > most, size, most)
    return select(most < integers(BOUND_BITS), floats(0), floats(1))


@inner
def mark(t, odd):
    """Mark the blocks of lanes where `odd` is not 0."""
    store(t, ODD, load(t, ODD) + odd)


@inner
def mark_abreast(t, odd):
    """Mark the blocks of lanes where any part of a pair or quad is not 0; levels are not kept."""
    store(t, LEVELS, odd)
    for part in range(0, width_of(odd), 16):
        mark(t, load(t, LEVELS + part))


# --- what a reader of the file will see -----------------------------------------------------------------------------


@inner
def settle(t, parts, block, whole, halves, target):
    """Round the blocks' numbers at `block` (d, or dmin) to 16 bits; their bits go to `halves`, their products with the
    integers at `whole` to `target`, block by block. Marks blocks where d is beyond 16 bits."""
    for lane in range(16):
        half = to_half(t[block + lane])
        t[halves + lane] = half
        if (half & 0x7FFF) >= 0x7C00:
            t[ODD + lane] = 1
            half = 0
        t[TURN + lane] = from_half(half)
    number = load(t, TURN)
    for part in range(parts):
        store(t, TURN + 16 * part, number * load(t, whole + 16 * part))
    turn(t, TURN, target)


@inner
def mark_zeros(t, parts):
    """Mark blocks where a sub-block's scale, as a reader will see it, came out 0 (after `settle` of the scales): ggml
    keeps the levels of its search there, which are not kept here."""
    odd = load(t, ODD)
    for part in range(parts):
        odd = select(load(t, TURN + 16 * part) == floats(0), floats(1), odd)
    store(t, ODD, odd)


# --- weights: how much an error in each value of a sub-block matters ------------------------------------------------
# start: of the sub-block's values in the block; to, width: where the weight of value i goes, to + width i


@inner
def squares(t, start, n):
    """The sum of squares of n elements."""
    total = floats(0)
    for i in range(n):
        value = load(t, start + 16 * i)
        total = total + value * value
    return total


@inner
def weigh_by_importance(t, start, n, to, width, sigma2):
    """importance * sqrt(sigma2 + x^2); returns their sum."""
    total = floats(0)
    for i in range(n):
        value = load(t, X + start + 16 * i)
        weight = load(t, Q + start + 16 * i) * square_root(sigma2 + value * value)
        store(t, to + width * i, weight)
        total = total + weight
    return total


@inner
def weigh_by_mean(t, start, n, to, width):
    """sqrt(mean of x^2) + |x|."""
    mean = square_root(squares(t, X + start, n) / floats(n))
    for i in range(n):
        store(t, to + width * i, mean + magnitude(load(t, X + start + 16 * i)))


@inner
def weigh_by_magnitude(t, start, n, to, width):
    """|x|."""
    for i in range(n):
        store(t, to + width * i, magnitude(load(t, X + start + 16 * i)))


@inner
def weigh_by_square(t, start, n, to, width):
    """x^2."""
    for i in range(n):
        value = load(t, X + start + 16 * i)
        store(t, to + width * i, value * value)


@inner
def weigh_by_column(t, start, n, to, width):
    """The importance itself."""
    for i in range(n):
        store(t, to + width * i, load(t, Q + start + 16 * i))
