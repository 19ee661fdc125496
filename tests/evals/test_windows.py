"""Perplexity and KL as llama.cpp's perplexity tool has them: from raw logits by the definition, and as it prints."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import InputError
from edgeft.evals.divergence import compare
from edgeft.evals.windows import divergence, perplexity, windows
from tests.evals.fakes import FakeRuntime

PATH = Path(__file__).parents[2] / "tools" / "bench" / "perplexity.py"
# What llama-perplexity (llama.cpp as llama-cpp-python 0.3.36 carries it, x86-64) printed for builtin:sprout as f16 and
# q4_k_m over the packaged neutral texts: -c 128 -b 128 -t 1, with --kl-divergence-base and --kl-divergence.
PRINTED = {
    "reference perplexity": 10253.2039,
    "perplexity": 10227.900192,
    "mean KL": 0.097301,
    "99.9 % KL": 0.535577,
    "same top": 0.79660,
}


@pytest.fixture
def bench() -> Any:
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("bench_perplexity", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def by_definition(first: Any, second: Any, ids: list[int], size: int) -> dict[str, float]:
    """From raw logits, in float64 and one position at a time: softmax, KL, nats; the second half of each window."""
    kl, nats, other_nats, same = [], [], [], []
    for start in range(0, len(ids) - size + 1, size):
        window = ids[start : start + size]
        p_logits, q_logits = (np.asarray(runtime.logits(window), dtype=np.float64) for runtime in (first, second))
        for position in range(size // 2, size - 1):
            p, q = (
                np.exp(row - row.max()) / np.exp(row - row.max()).sum()
                for row in (p_logits[position], q_logits[position])
            )
            kl.append(float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)))
            token = window[position + 1]
            nats.append(-math.log(p[token]))
            other_nats.append(-math.log(q[token]))
            same.append(int(p.argmax() == q.argmax()))
    ordered = sorted(kl)
    place = 0.999 * (len(ordered) - 1)
    low = math.floor(place)
    high = ordered[min(low + 1, len(ordered) - 1)]
    return {
        "perplexity": math.exp(sum(other_nats) / len(other_nats)),
        "reference_perplexity": math.exp(sum(nats) / len(nats)),
        "mean_kl": sum(kl) / len(kl),
        "p999_kl": ordered[low] + (place - low) * (high - ordered[low]),
        "top1_agreement": sum(same) / len(same),
        "perplexity_ratio": math.exp(sum(other_nats) / len(nats) - sum(nats) / len(nats)),
    }


def test_figures_are_those_of_the_definition_from_raw_logits() -> None:
    first, second = FakeRuntime(), FakeRuntime(noise=0.4)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 250, 200)]
    rows = windows(ids, 48)
    assert len(rows) == 4, "the remainder is left out"
    wanted = by_definition(first, second, ids, 48)
    found = divergence(first, second, rows)
    assert found["positions"] == 4 * (48 - 24 - 1)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=2e-9), name
    assert perplexity(second, rows) == pytest.approx(wanted["perplexity"], rel=1e-9)


def test_bos_begins_each_window_and_short_texts_are_refused() -> None:
    rows = windows(list(range(10, 30)), 8, bos=1)
    assert [item.ids for _, item in rows] == [[1, *range(11, 18)], [1, *range(19, 26)]]
    assert (rows[0][1].start, rows[0][1].end) == (5, 8)
    with pytest.raises(InputError, match="two windows of 8 take 16"):
        windows(list(range(15)), 8)


def test_intervals_hold_the_figures_and_are_over_rows() -> None:
    from scipy import stats

    first, second = FakeRuntime(), FakeRuntime(noise=0.4)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 250, 960)]
    found = compare(first, second, windows(ids, 48)).as_json()["answer"]
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high, name
    means = [by_definition(first, second, ids[i : i + 48], 48)["mean_kl"] for i in range(0, 960, 48)]
    low, high = stats.t.interval(0.95, 19, np.mean(means), stats.sem(means))
    assert found["intervals"]["mean_kl"] == pytest.approx([low, high], rel=0.1)


@pytest.fixture(scope="module")
def sprouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from edgeft.exporters import ExportSource
    from edgeft.exporters.gguf.export import export
    from edgeft.models.base import resolve

    folder = tmp_path_factory.mktemp("sprout")
    source = ExportSource(resolve("builtin:sprout"), name="sprout")
    f16, q4 = (folder / str(export(source, kind, folder, {}).facts["file"]) for kind in ("f16", "q4_k_m"))
    return f16, q4


def test_the_figures_are_those_that_llama_cpp_prints(bench: Any, sprouts: tuple[Path, Path]) -> None:
    """The reference's perplexity to float32's last digits. Of the quantized file llama.cpp's last bits depend on how
    many positions a product has at once, and the tool asks for others than we. It keeps the reference in 16 bits, hence
    the tolerance of its KL."""
    found = bench.ours(*sprouts, bench.neutral(), 128)
    assert found["reference perplexity"] == pytest.approx(PRINTED["reference perplexity"], rel=1e-6)
    assert found["perplexity"] == pytest.approx(PRINTED["perplexity"], rel=1e-4)
    assert found["mean KL"] == pytest.approx(PRINTED["mean KL"], rel=1e-3)
    assert found["99.9 % KL"] == pytest.approx(PRINTED["99.9 % KL"], rel=1e-3)
    assert found["same top"] == pytest.approx(PRINTED["same top"], abs=1e-3)


TOOL = os.environ.get("EDGEFT_LLAMA_PERPLEXITY")


@pytest.mark.skipif(not TOOL, reason="EDGEFT_LLAMA_PERPLEXITY names no llama-perplexity")
def test_against_the_tool_itself(bench: Any, sprouts: tuple[Path, Path]) -> None:
    theirs = bench.tools(TOOL, *sprouts, bench.neutral(), 64)
    found = bench.ours(*sprouts, bench.neutral(), 64)
    assert found["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-6)
    assert found["mean KL"] == pytest.approx(theirs["mean KL"], rel=1e-3)
