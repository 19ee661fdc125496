"""SIGKILL at many points of a toy run: every resumed run ends as an undisturbed one. And two runs at once on one
store."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeft.pipeline import Event, EventKind, Status, collect, list_runs, plan
from tests.pipeline import toy
from tests.pipeline.conftest import Kitchen, why
from tests.pipeline.crashes import bake, forked

REPOSITORY = Path(__file__).parents[2]
SAME = ("exit_code", "digests", "links", "damaged", "store", "scratch")


def tell(folder: Path, *stories: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.pipeline.crashes", str(folder), *stories]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    (told,) = tell(tmp_path_factory.mktemp("undisturbed"), "count")
    assert told["exit_code"] == 0
    assert told["damaged"] == []
    assert told["scratch"] == []
    return told


def check(told: list[dict[str, Any]], undisturbed: dict[str, Any]) -> None:
    for each in told:
        assert each["killed"][0], f"point {each['points']} was not reached"
        for name in SAME:
            assert each[name] == undisturbed[name], f"{name} after a kill at {each['points']}"


def test_the_points_are_spread_over_all_work(undisturbed: dict[str, Any]) -> None:
    names = set(undisturbed["names"])
    assert {"replace", "rename", "fsync", "mkdir", "unlink", "symlink", "progress train"} <= names
    assert {f"started {name}" for name in undisturbed["digests"]} <= names
    assert undisturbed["count"] > 100


def test_a_run_killed_anywhere_resumes_to_the_same_end(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    points = range(2, undisturbed["count"], 11)
    assert len(points) >= 20
    check(tell(tmp_path, *map(str, points)), undisturbed)


@pytest.mark.slow
def test_a_run_killed_at_every_point_resumes_to_the_same_end(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    check(tell(tmp_path, *map(str, range(1, undisturbed["count"] + 1))), undisturbed)


def test_a_run_killed_again_and_again(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    chance = random.Random(7)
    stories = [",".join(str(chance.randrange(5, 90)) for _ in range(6)) for _ in range(6)]
    check(tell(tmp_path, *stories), undisturbed)


def test_a_forced_run_killed_anywhere_leaves_a_good_store(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    points = range(3, undisturbed["count"] - 30, 41)
    check(tell(tmp_path, *(f"force:{point}" for point in points)), undisturbed)


def test_what_was_finished_is_not_built_again(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """Killed after `train` was in place: the resumed run builds only what comes after it."""
    point = undisturbed["names"].index("started gate") + 1
    (told,) = tell(tmp_path, str(point))
    assert told["built"] == ["gate", "export.a", "verify.a", "report"]


def test_training_goes_on_from_its_checkpoint(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    point = undisturbed["names"].index("progress train") + 2
    (told,) = tell(tmp_path, str(point))
    assert told["calls"][:2] == ["train", "resumed at 1"]


def test_a_killed_run_is_known_as_killed(kitchen: Kitchen) -> None:
    def kill(event: Event) -> None:
        if event.kind == EventKind.PROGRESS:
            os.kill(os.getpid(), signal.SIGKILL)

    kitchen.hook = kill
    status, _ = forked(lambda: kitchen.run("train").exit_code)
    assert status == -signal.SIGKILL
    assert [run.state for run in list_runs(kitchen.root)] == ["killed"]
    planned = {each.target.name: each for each in plan(toy.targets(), kitchen.project)}["train"]
    assert planned.resumes
    assert why(planned) == ["never built", "was interrupted: goes on from there"]
    assert [item.kind for item in collect(kitchen.root).items] == ["partial"]


def start(root: Path, **changes: Any) -> int:
    """A run in a child process; its calls and statuses are written to `<pid>.json` in `root`."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        cook = Kitchen(root)
        cook.hook = lambda event: (root / "waiting").touch() if event.kind == EventKind.WAITING else None
        result = cook.run(**changes)
        told = {
            "calls": toy.CALLS,
            "statuses": {each.target.name: str(each.status) for each in result.results},
            "waited": [event.target for event in cook.events if event.kind == EventKind.WAITING],
        }
        (root / f"{os.getpid()}.json").write_text(json.dumps(told))
        code = result.exit_code
    finally:
        os._exit(code)


def outcome(root: Path, child: int) -> dict[str, Any]:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    told: dict[str, Any] = json.loads((root / f"{child}.json").read_text())
    return told


def test_two_runs_at_once_share_the_work(kitchen: Kitchen) -> None:
    slow = {"train": {"pause": 0.15}}
    one = start(kitchen.root, **slow)
    two = start(kitchen.root, **slow)
    told = [outcome(kitchen.root, child) for child in (one, two)]
    calls = [call for each in told for call in each["calls"]]
    assert sorted(calls) == sorted(["read", "train", "judge", "export", "judge", "export", "judge", "report"])
    assert any("train" in each["waited"] for each in told)
    assert kitchen.run().exit_code == 0
    assert toy.CALLS == []


def test_two_runs_with_different_settings_do_not_disturb_each_other(kitchen: Kitchen) -> None:
    children = [start(kitchen.root, train={"steps": steps, "pause": 0.02}) for steps in (4, 5, 6)]
    for child in children:
        assert "train" in outcome(kitchen.root, child)["calls"]
    for steps in (4, 5, 6):
        assert kitchen.run(train={"steps": steps}).exit_code == 0
        assert toy.CALLS == []


def test_who_waits_for_a_run_that_is_killed_takes_over(kitchen: Kitchen) -> None:
    settings = {"train": {"steps": 30, "pause": 0.2}}
    one = start(kitchen.root, **settings)
    until(lambda: any((kitchen.root / ".edgeft" / "scratch").glob("*/checkpoint.json")))
    two = start(kitchen.root, **settings)
    until((kitchen.root / "waiting").exists)
    os.kill(one, signal.SIGKILL)
    os.waitpid(one, 0)
    told = outcome(kitchen.root, two)
    assert told["statuses"]["train"] == "built"
    assert told["waited"] == ["train"]
    assert told["calls"][0] == "train"
    assert told["calls"][1].startswith("resumed at")


def until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_ends_a_run_with_130(kitchen: Kitchen, number: signal.Signals, times: int) -> None:
    stubborn = {"train": {"steps": 400, "pause": 0.05}}
    child = start(kitchen.root, **stubborn)
    until(lambda: any((kitchen.root / ".edgeft" / "scratch").glob("*/checkpoint.json")))
    for _ in range(times):
        os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert not list((kitchen.root / ".edgeft" / "store").glob("train*")) or times == 2
    result = kitchen.run("train", train={"steps": 400})
    assert result["train"].status == Status.BUILT
    assert toy.CALLS[1].startswith("resumed at")


def test_baking_here_matches_the_harness(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    from tests.pipeline.crashes import Killer

    result = bake(tmp_path, Killer(None))
    assert {each.target.name: each.artifact.digest for each in result.results if each.artifact} == undisturbed[
        "digests"
    ]
