"""16-bit floats as the kernels make and read them, against numpy's."""

from __future__ import annotations

import numpy as np
from numba import njit

from edgeft.exporters.gguf.kquants.arithmetic import from_half, to_half


@njit
def _all_to_half(values, out):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        out[i] = to_half(values[i])


@njit
def _all_from_half(halves, out):  # type: ignore[no-untyped-def]
    for i in range(len(halves)):
        out[i] = from_half(np.int64(halves[i]))


def test_to_half() -> None:
    generator = np.random.default_rng(0)
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (exact[1:] + exact[:-1]) / 2
    values = [exact, middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(1e6))]
    values += [generator.integers(0, 0x7F800001, 200_000, dtype=np.uint32).view(np.float32)]
    every = np.concatenate(values).astype(np.float32)
    every = np.concatenate([every, -every])
    found = np.empty(len(every), dtype=np.uint16)
    _all_to_half(every, found)
    with np.errstate(over="ignore"):
        assert np.array_equal(found, every.astype(np.float16).view(np.uint16))


def test_from_half() -> None:
    halves = np.concatenate([np.arange(0x7C00), 0x8000 + np.arange(0x7C00)]).astype(np.uint16)
    found = np.empty(len(halves), dtype=np.float32)
    _all_from_half(halves, found)
    assert np.array_equal(found.view(np.uint32), halves.view(np.float16).astype(np.float32).view(np.uint32))
