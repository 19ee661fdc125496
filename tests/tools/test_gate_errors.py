"""The simulation of the gates' errors, small: the same numbers each time, and false alarms as rare as promised."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "tools" / "bench" / "gate_errors.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("gate_errors", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_errors"] = module
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.mark.parametrize(("kind", "runs"), [(0, 120), (1, 12), (2, 12)])
def test_false_alarms_are_rare_at_the_limit_and_large_drops_are_caught(bench: Any, kind: int, runs: int) -> None:
    """2.5 % is meant of each; at most 5 % and what 12 or 120 runs leave to chance (3 standard errors)."""
    chosen = bench.KINDS[kind]
    at_limit = bench.rates(chosen, 150, chosen.limit, runs, seed=3)
    most = 0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5
    assert at_limit["failed"] / runs <= most
    assert at_limit["passed"] / runs <= most
    large = bench.rates(chosen, 300, 4 * chosen.limit, runs // 4, seed=3)
    assert large["failed"] / (runs // 4) > 0.7
    assert large["passed"] == 0


def test_the_same_seed_gives_the_same_counts(bench: Any) -> None:
    first, second = (bench.rates(bench.KINDS[0], 60, 0.01, 10, seed=2) for _ in range(2))
    assert first == second


def test_many_gates_at_once_do_not_add_up_their_errors(bench: Any) -> None:
    found = bench.together(120, 1, 25, seed=1)
    assert found["failed"] <= found["alone"]
    assert found["failed"] / 25 <= 0.1
