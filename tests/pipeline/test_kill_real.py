"""A small real recipe, every stage of it, SIGKILLed at points spread over all stages and resumed each time: what comes
out in the end is, byte for byte, what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for module in ("torch", "trl", "bitsandbytes", "llama_cpp", "onnxruntime_genai"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "tests.pipeline.real_crashes", str(tmp_path_factory.mktemp("real"))]
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    for kill in found["kills"]:
        where = {True: f"killed in {kill['in']}", False: "passed by"}
        print(f"{kill['point']:<28} {where[kill['killed']]} {kill['seconds']:6.1f} s")
    return found


def test_it_was_killed_in_every_stage(told: dict[str, Any]) -> None:
    kills = [kill for kill in told["kills"] if kill["killed"]]
    assert len(kills) >= 20
    assert {kill["in"] for kill in kills} == set(told["calm"]["statuses"])
    # Points that no timer moves are met exactly, as long as no timer before them came too late.
    sure = [
        kill for kill in told["kills"] if kill["point"].endswith((":write", ":finish")) or ":step=" in kill["point"]
    ]
    met = [kill for kill in sure if kill["killed"] and kill["in"] == kill["point"].rpartition(":")[0]]
    assert len(met) >= 15
    hows = {kill["point"].rpartition(":")[2].partition("=")[0] for kill in kills}
    assert {"write", "step", "half", "finish"} <= hows


def test_training_went_on_from_a_checkpoint(told: dict[str, Any]) -> None:
    assert told["calm"]["resumed"]["train"] == 0
    assert told["stormy"]["resumed"]["train"] > 0


@pytest.mark.parametrize("what", ["exit_code", "digests", "files", "facts", "damaged", "store", "scratch"])
def test_the_end_is_the_same(told: dict[str, Any], what: str) -> None:
    assert told["stormy"][what] == told["calm"][what]


def test_the_undisturbed_run_is_worth_comparing_with(told: dict[str, Any]) -> None:
    calm = told["calm"]
    assert calm["exit_code"] == 0, calm["error"]
    assert len(calm["digests"]) == len(calm["statuses"]) == 12
    assert calm["damaged"] == calm["scratch"] == []
