"""The kernels: one compiled function per type. Called by `run`.

    kernel(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd)

t, starts   working memory: float32 [room.WHOLE] and int64 [16]; t aligned to a cache line
singles     float32 [n], or empty    words  uint16 [n], or empty    kind  which of them, and how to read it (`tile`)
importance  float32 [width of a row], or empty: an importance matrix's row, without which the types search otherwise
steps, scale_steps  float32: numerators that the searches try (`formats`), empty where there is nothing to try
out         uint8 [bytes of all blocks]    odd  uint8 [blocks]: set to 1 where ggml has to do the block

Each goes tile by tile: fill it, find the scales of its 16 blocks, pack them block by block. The loops are alike and
stand here one by one since numba caches neither closures nor functions that are handed functions.
"""

from __future__ import annotations

from edgeft.exporters.gguf.kquants import linear, nonlinear, offset, symmetric
from edgeft.exporters.gguf.kquants.compiled import kernel
from edgeft.exporters.gguf.kquants.tile import FLOAT32, fill


@kernel
def q4_k(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        offset.scale_offset(t, importance.size > 0, 32, 15, 63, steps, scale_steps, False)
        for lane in range(count):
            odd[first + lane] = offset.pack_q4_k(t, lane, rows, starts[lane], out, (first + lane) * 144)


@kernel
def q5_k(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        offset.scale_offset(t, importance.size > 0, 32, 31, 63, steps, scale_steps, False)
        for lane in range(count):
            odd[first + lane] = offset.pack_q5_k(t, lane, rows, starts[lane], out, (first + lane) * 176)


@kernel
def q2_k(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        offset.scale_offset(t, importance.size > 0, 16, 3, 15, steps, scale_steps, True)
        for lane in range(count):
            odd[first + lane] = offset.pack_q2_k(t, lane, rows, starts[lane], out, (first + lane) * 84)


@kernel
def q6_k(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        symmetric.scale_q6_k(t, importance.size > 0, steps)
        for lane in range(count):
            odd[first + lane] = symmetric.pack_q6_k(t, lane, rows, starts[lane], out, (first + lane) * 210)


@kernel
def q3_k(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        symmetric.scale_q3_k(t, importance.size > 0, steps, scale_steps)
        for lane in range(count):
            odd[first + lane] = symmetric.pack_q3_k(t, lane, rows, starts[lane], out, (first + lane) * 110)


@kernel
def iq4_xs(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 256)
        nonlinear.scale_iq4_xs(t, importance.size > 0, steps)
        for lane in range(count):
            odd[first + lane] = nonlinear.pack_iq4_xs(t, lane, rows, starts[lane], out, (first + lane) * 136)


@kernel
def iq4_nl(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 32)
        nonlinear.scale_nonlinear(t, importance.size > 0, 32, steps)
        for lane in range(count):
            odd[first + lane] = nonlinear.pack_iq4_nl(t, lane, rows, starts[lane], out, (first + lane) * 18)


@kernel
def q8_0(t, starts, singles, words, kind, importance, steps, scale_steps, out, odd):
    rows = singles if kind == FLOAT32 else t
    for first in range(0, len(odd), 16):
        count = min(16, len(odd) - first)
        fill(t, starts, singles, words, kind, importance, first, count, 32)
        linear.scale_q8_0(t)
        for lane in range(count):
            odd[first + lane] = linear.pack_q8_0(t, lane, rows, starts[lane], out, (first + lane) * 34)


KERNELS = {
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q2_K": q2_k,
    "Q6_K": q6_k,
    "Q3_K": q3_k,
    "IQ4_XS": iq4_xs,
    "IQ4_NL": iq4_nl,
    "Q8_0": q8_0,
}
