"""Garbage collection: what nothing refers to goes, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgeft.pipeline import Event, EventKind, collect
from edgeft.pipeline.locks import locked
from tests.pipeline import toy
from tests.pipeline.conftest import Kitchen

OLD = 40 * 86_400


def make_old(root: Path) -> None:
    """Make every run and every entry look 40 days old."""
    then = time.time() - OLD
    for folder in ("store", "scratch"):
        for path in (root / ".edgeft" / folder).glob("*"):
            os.utime(path, (then, then))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
    for path in (root / ".edgeft" / "runs").glob("*.json"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(f'  "started": "{stamp}",' if '"started":' in line else line for line in lines))


def test_what_is_linked_stays_and_old_settings_go(kitchen: Kitchen) -> None:
    kitchen.run(train={"steps": 9})
    old = set(kitchen.stored())
    kitchen.run()
    now = set(kitchen.linked().values())
    make_old(kitchen.root)
    would = collect(kitchen.root, dry_run=True)
    assert {item.path.name for item in would.items} == old - now
    assert would.bytes > 0
    assert set(kitchen.stored()) == old | now
    done = collect(kitchen.root)
    assert done.bytes == would.bytes
    assert set(kitchen.stored()) == now
    assert done.kept == len(now)
    assert collect(kitchen.root).items == ()
    kitchen.run()
    assert toy.CALLS == []


def test_recent_runs_keep_what_they_used(kitchen: Kitchen) -> None:
    kitchen.run(train={"steps": 9})
    kitchen.run()
    assert collect(kitchen.root, keep_days=7).items == ()
    time.sleep(1.1)
    assert collect(kitchen.root, keep_days=0).items


def test_without_a_store_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert collect(tmp_path).items == ()
    assert list(tmp_path.iterdir()) == []


def test_left_overs_of_a_kill_go(kitchen: Kitchen) -> None:
    kitchen.run("data")
    store, scratch = kitchen.root / ".edgeft" / "store", kitchen.root / ".edgeft" / "scratch"
    for path in (store / "train-0123.partial", store / "train-4567.old", scratch / "train-0123"):
        path.mkdir(parents=True)
        (path / "x.bin").write_bytes(b"x" * 1000)
    assert [item.kind for item in collect(kitchen.root).items] == ["partial", "partial"]
    make_old(kitchen.root)
    done = collect(kitchen.root)
    assert [(item.path.name, item.kind, item.bytes) for item in done.items] == [("train-0123", "scratch", 1000)]
    assert list(scratch.iterdir()) == []


def test_what_is_locked_stays(kitchen: Kitchen) -> None:
    kitchen.run("data")
    kitchen.run("data", data={"upper": True})
    make_old(kitchen.root)
    (name,) = set(kitchen.stored()) - set(kitchen.linked().values())
    with locked(kitchen.root / ".edgeft" / "locks" / f"{name}.lock"):
        assert collect(kitchen.root).items == ()
    assert [item.path.name for item in collect(kitchen.root).items] == [name]


def test_what_a_live_run_uses_stays(kitchen: Kitchen) -> None:
    """Nothing links to the old data artifact, every record is old; but a run that goes on has just found it."""
    kitchen.run("data")
    kitchen.run("data", data={"upper": True})
    make_old(kitchen.root)
    found = []

    def sweep(event: Event) -> None:
        if event.kind == EventKind.SKIPPED and event.target == "data":
            found.append(collect(kitchen.root, keep_days=1))

    kitchen.hook = sweep
    assert kitchen.run("train").exit_code == 0
    assert toy.CALLS == ["train"]
    assert [item.path.name for item in found[0].items] == []


def test_an_artifact_that_vanishes_after_planning_is_built_again(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeft.pipeline.plan import Planner

    kitchen.run()
    make_old(kitchen.root)
    decide = Planner.decide
    swept = []

    def race(self: Planner, target: object, states: object) -> object:
        planned = decide(self, target, states)  # type: ignore[arg-type]
        if planned.target.name == "train" and planned.artifact is not None and len(swept) == 1:
            for link in (kitchen.root / "build" / "toy").iterdir():
                link.unlink()
            collect(kitchen.root)
        if planned.target.name == "train":
            swept.append(planned.status)
        return planned

    monkeypatch.setattr(Planner, "decide", race)
    result = kitchen.run("train")
    assert result.exit_code == 0
    assert "train" in toy.CALLS
    assert result["train"].artifact is not None
    assert result["train"].artifact.file("adapter.bin").is_file()


def test_collecting_twice_at_once_is_safe(kitchen: Kitchen) -> None:
    from concurrent.futures import ThreadPoolExecutor

    kitchen.run(train={"steps": 9})
    kitchen.run()
    make_old(kitchen.root)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: collect(kitchen.root), range(4)))
    assert set(kitchen.stored()) == set(kitchen.linked().values())
