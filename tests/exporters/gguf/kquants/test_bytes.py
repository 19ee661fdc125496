"""The kernels give ggml's bytes, on everything: the installed library is the oracle."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgeft.exporters.gguf import ggml
from edgeft.exporters.gguf.kquants import run, trust
from edgeft.exporters.gguf.kquants.formats import FORMATS
from edgeft.exporters.gguf.kquants.source import Rows
from tests.exporters.gguf.kquants.odd import Floats, importances, odd_rows

NAMES = sorted(FORMATS)


def ours(name: str, values: Any, importance: Floats | None = None) -> tuple[NDArray[np.uint8], int]:
    rows = values if isinstance(values, Rows) else Rows(values)
    count, width = rows.data.shape
    out = np.full((count, ggml.row_bytes(name, width)), 0xAA, dtype=np.uint8)
    return out, run.encode(name, rows, importance, out, ggml.encoded)


def same(name: str, values: Floats, importance: Floats | None = None) -> None:
    made, _ = ours(name, values, importance)
    wanted = ggml.encoded(name, values, importance)
    different = np.flatnonzero((made != wanted).any(axis=1))
    assert not different.size, f"{name}: rows {different[:5]} of {len(values)}"


@pytest.mark.parametrize("name", NAMES)
def test_the_blocks_of_the_self_check(name: str) -> None:
    assert trust.agrees(name, ggml.encoded)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_and_their_dtypes(name: str, dtype: torch.dtype) -> None:
    """Ordinary weights are all the kernel's work: ggml has nothing to do."""
    generator = np.random.default_rng(1)
    tensor = torch.from_numpy(generator.standard_normal((96, 512), dtype=np.float32) * 0.02).to(dtype)
    importance = (generator.random(512, dtype=np.float32) + 0.01) ** 2
    for weights in (None, importance):
        made, left = ours(name, Rows.of(tensor), weights)
        assert np.array_equal(made, ggml.encoded(name, tensor.float().numpy(), weights))
        assert left <= (4 if name == "Q2_K" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_count_of_rows(name: str) -> None:
    size = FORMATS[name].size
    values = np.random.default_rng(2).standard_normal((35, 3 * size), dtype=np.float32)
    importance = np.random.default_rng(3).random(3 * size, dtype=np.float32)
    for count in range(36):
        same(name, values[:count])
        same(name, values[:count], importance)


@pytest.mark.parametrize("name", NAMES)
def test_odd_blocks(name: str) -> None:
    size = FORMATS[name].size
    rows = odd_rows(size)
    same(name, rows)
    for importance in importances(size):
        same(name, rows, importance)


@pytest.mark.parametrize("name", NAMES)
def test_an_importance_that_is_not_finite(name: str) -> None:
    size = FORMATS[name].size
    values = np.random.default_rng(6).standard_normal((20, 2 * size), dtype=np.float32)
    for bad in (np.inf, np.nan, 3e38, -1.0):
        importance = np.ones(2 * size, dtype=np.float32)
        importance[7] = bad
        same(name, values, importance)


BITS = arrays(np.uint32, (3, 256), elements=st.integers(0, 2**32 - 1))
SIZES = arrays(np.float32, (3, 256), elements=st.floats(-1, 1, width=32))
PARTS = arrays(np.int8, (3, 8), elements=st.integers(-60, 60))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(bits=BITS, sizes=SIZES, parts=PARTS, weighted=st.booleans(), finite=st.booleans())
def test_whatever_comes(name: str, bits: Any, sizes: Any, parts: Any, weighted: bool, finite: bool) -> None:
    """Any bits at all; and any finite values, in sub-blocks of any size."""
    scaled = sizes * np.repeat(np.exp2(parts.astype(np.float32)), 32, axis=1)
    values = scaled.astype(np.float32) if finite else bits.view(np.float32)
    importance = np.abs(sizes[0]).astype(np.float32) if weighted else None
    same(name, np.ascontiguousarray(values), importance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_other_steps_are_seen(name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative control: numerators that are one bit off lead to other bytes somewhere. (In Q6_K and the non-linear
    types a numerator only chooses levels, so there it takes a thousandth.)"""
    form = FORMATS[name]
    if not (form.important if weighted else form.plain):
        pytest.skip("this search has no steps")
    right = run.numerators

    def off(rows: Any) -> Any:
        first, second = right(rows)
        slack = np.abs(first) / 1000 if name in ("Q6_K", "IQ4_XS", "IQ4_NL") else np.spacing(np.abs(first))
        return (first + slack).astype(np.float32), second

    assert trust.agrees(name, ggml.encoded)
    monkeypatch.setattr(run, "numerators", off)
    assert not trust.agrees(name, ggml.encoded)


FUSED = """
import sys
from edgeft.exporters.gguf.kquants import lanes
lanes.ROUNDING_FLAGS = tuple(sys.argv[1:])
from edgeft.exporters.gguf import ggml
from edgeft.exporters.gguf.kquants import trust
print(*(trust.agrees(name, ggml.encoded) for name in ("Q4_K", "Q6_K")))
"""


@pytest.mark.slow
def test_fused_rounding_is_seen(tmp_path: Path) -> None:
    """A negative control: with multiplications and additions fused (one rounding where C has two) bytes differ."""
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("fma", False):
        pytest.skip("this processor cannot fuse them")
    found = []
    for flags in ((), ("contract",)):
        env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "-".join(("cache", *flags)))}
        run_ = subprocess.run(
            [sys.executable, "-c", FUSED, *flags], env=env, capture_output=True, text=True, check=True
        )
        found.append(run_.stdout.split())
    assert found == [["True", "True"], ["False", "False"]]


def test_the_numerators_are_those_of_c() -> None:
    """(rmin + rdelta * i + top) in float32, as the C compiler's: a spot check against exact arithmetic."""
    tried = FORMATS["Q4_K"].plain[0].numerators()
    assert len(tried) == 22
    assert tried[0] == 15
    single = np.float32
    assert list(tried[1:4]) == [
        single(14),
        single(single(-1) + single(0.1)) + single(15),
        single(single(-1) + single(single(0.1) * single(2))) + single(15),
    ]
    around = dataclasses.replace(FORMATS["Q6_K"].plain[0]).numerators()
    assert (len(around), around[0]) == (19, -32)
