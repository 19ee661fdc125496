"""Blocks that leave the usual, for the tests beside it and for `tools/bench/kquants.py --identity`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def odd_rows(size: int) -> Floats:
    """Blocks that leave the usual: each stands beside ordinary ones, so that lanes of one vector differ."""
    generator = np.random.default_rng(4)
    base = generator.standard_normal(size).astype(np.float32)
    one = np.zeros(size, dtype=np.float32)
    one[size // 2] = 1
    found = [
        np.zeros(size), -np.zeros(size), np.full(size, 0.25), np.full(size, -0.25), one, -one,
        base * 1e-38, base * 1e-42, base * 1e-20, base * 1e-7, base * 1e20, base * 3e37, base * 1e30,
        np.abs(base), -np.abs(base), np.sign(base), np.round(base * 3), base + 1000, base - 1000,
        np.where(np.arange(size) == 3, np.inf, base), np.where(np.arange(size) == 3, -np.inf, base),
        np.where(np.arange(size) == 5, np.nan, base), np.full(size, np.nan), np.full(size, np.inf),
        np.where(np.arange(size) < size // 2, 0, base), np.where(np.arange(size) == 9, 1e6, base * 1e-3),
        np.float32(1.17549435e-38) * np.sign(base), np.exp2(generator.integers(-140, 127, size)),
        np.where(np.arange(size) % 32 < 16, base * 1e-4, base), base * np.float32(2.0) ** -24, base * 65504,
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        rows = np.stack(found).astype(np.float32)
    mixed = np.tile(base, (len(rows), 1))
    return np.ascontiguousarray(np.stack([rows, mixed], axis=1).reshape(-1, size))


def importances(size: int) -> list[Floats]:
    """Of all columns alike, of a half of them, of none, of every other sub-block, very small and very large."""
    generator = np.random.default_rng(5)
    partly = generator.random(size, dtype=np.float32) * (generator.random(size) < 0.5)
    found = (np.ones(size), partly, np.zeros(size), np.arange(size) % 32 < 16, partly * 1e-30, partly * 1e25)
    return [one.astype(np.float32) for one in found]
