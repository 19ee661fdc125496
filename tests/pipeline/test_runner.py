"""Runs from beginning to end: what is built, kept, linked, blocked, and with which exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from typing import Any

import pytest

from edgeft import artifact, extras
from edgeft.errors import Interrupted, MissingError, StorageError, UsageError
from edgeft.pipeline import Event, EventKind, Options, Source, Status, Target, plan, read_run, run
from tests.pipeline import toy
from tests.pipeline.conftest import Kitchen, statuses, why

ALL = ["data", "train", "gate", "export.a", "verify.a", "export.b", "verify.b", "report"]
BUILT, KEPT = Status.BUILT, Status.UP_TO_DATE


def test_everything_is_built_once(kitchen: Kitchen) -> None:
    first = kitchen.run()
    assert first.exit_code == 0
    assert first.error is None
    assert statuses(first) == dict.fromkeys(ALL, BUILT)
    assert len(toy.CALLS) == len(ALL)
    again = kitchen.run()
    assert again.exit_code == 0
    assert statuses(again) == dict.fromkeys(ALL, KEPT)
    assert toy.CALLS == []
    assert [each.artifact for each in again.results] == [each.artifact for each in first.results]


def test_links_are_relative_and_point_at_the_artifacts(kitchen: Kitchen) -> None:
    result = kitchen.run()
    assert sorted(kitchen.linked()) == sorted(ALL)
    for each in result.results:
        link = kitchen.root / "build" / "toy" / each.target.name
        assert not link.readlink().is_absolute()
        assert each.artifact is not None
        assert link.resolve() == each.artifact.path
        assert artifact.load(link).digest == each.artifact.digest


def test_only_what_depends_on_a_change_is_built_again(kitchen: Kitchen) -> None:
    kitchen.run()
    result = kitchen.run(export_b={"form": "bb"})
    assert [name for name, status in statuses(result).items() if status == BUILT] == ["export.b", "verify.b", "report"]


def test_a_rebuilt_input_with_the_same_content_stops_the_chain(kitchen: Kitchen) -> None:
    (kitchen.root / "rows.jsonl").write_text("ONE\n")
    kitchen.run(data={"upper": False})
    planned = kitchen.plan(data={"upper": True})
    assert planned["data"].status == Status.WILL_RUN
    assert planned["train"].status == Status.MAY_RUN
    assert why(planned["train"]) == ["input data will be rebuilt"]
    result = kitchen.run(data={"upper": True})
    assert toy.CALLS == ["read"]
    assert statuses(result)["train"] == KEPT


def test_going_back_to_old_settings_finds_the_old_artifact(kitchen: Kitchen) -> None:
    before = kitchen.run().results
    kitchen.run(train={"steps": 4})
    assert kitchen.linked()["train"] != before[1].artifact.path.name  # type: ignore[union-attr]
    back = kitchen.run()
    assert toy.CALLS == []
    assert kitchen.linked()["train"] == before[1].artifact.path.name  # type: ignore[union-attr]
    assert why_of(back, "train") == ["found in the store", "steps 4 → 3"]


def why_of(result: Any, name: str) -> list[str]:
    return [str(reason) for reason in result[name].reasons]


def test_fields_out_of_the_fingerprint_change_nothing(kitchen: Kitchen) -> None:
    kitchen.run()
    kitchen.run(train={"label": "other", "pause": 0.001})
    assert toy.CALLS == []


def test_named_targets_only(kitchen: Kitchen) -> None:
    result = kitchen.run("export.a")
    assert list(statuses(result)) == ["data", "train", "gate", "export.a", "verify.a"]
    assert "export.b" not in kitchen.linked()
    with pytest.raises(UsageError, match="no target 'exprot'"):
        kitchen.run("exprot")


def test_force_builds_everything_again_and_says_so(kitchen: Kitchen) -> None:
    first = kitchen.run()
    planned = kitchen.plan(options={"force": True})
    assert all(each.will_run and "forced (-B)" in why(each) for each in planned.values())
    result = kitchen.run(options={"force": True})
    assert statuses(result) == dict.fromkeys(ALL, BUILT)
    assert "resumed" not in " ".join(toy.CALLS)
    assert [a.artifact.digest for a in first.results] == [b.artifact.digest for b in result.results]  # type: ignore[union-attr]
    assert len(kitchen.stored()) == len(ALL)


def test_dry_run_and_run_decide_alike(kitchen: Kitchen) -> None:
    kitchen.run()
    for changes in ({}, {"train": {"steps": 9}}, {"gate": {"passes": False}}, {"data": {"upper": True}}):
        planned = kitchen.plan(**changes)
        assert toy.CALLS == []
        result = kitchen.run(**changes)
        for name, each in planned.items():
            now = result[name].status
            if each.status == Status.WILL_RUN and now not in (Status.BLOCKED, Status.NOT_RUN):
                assert now in (BUILT, Status.FAILED_VERDICT)
            elif each.status == Status.UP_TO_DATE:
                assert now in (KEPT, Status.BLOCKED)


def test_planning_writes_nothing_but_digests(kitchen: Kitchen) -> None:
    kitchen.plan()
    assert not (kitchen.root / "build").exists()
    assert [path.name for path in (kitchen.root / ".edgeft").glob("*")] in ([], ["digests.json"])


def test_a_failed_stage(kitchen: Kitchen) -> None:
    result = kitchen.run(train={"fault": "boom"})
    assert result.exit_code == 1
    assert statuses(result) == {
        "data": BUILT,
        "train": Status.FAILED,
        **dict.fromkeys(ALL[2:7], Status.BLOCKED),
        "report": BUILT,
    }
    assert str(result.error) == "train failed: ValueError: the oven\nrun again with --debug for the traceback"
    assert isinstance(result.error.__cause__, ValueError)  # type: ignore[union-attr]
    assert why_of(result, "gate") == ["train failed"]
    assert kitchen.stored() == sorted(each.artifact.path.name for each in result.results if each.artifact)
    report = json.loads((kitchen.root / "build/toy/report/report.json").read_text())
    assert report == {"data": True}
    planned = kitchen.plan()
    assert why(planned["train"]) == ["never built", "failed last time"]
    assert kitchen.run().exit_code == 0


def test_keep_going_builds_what_does_not_depend_on_the_failure(kitchen: Kitchen) -> None:
    stopped = kitchen.run(export_a={"fault": "boom"})
    assert stopped.exit_code == 1
    assert [stopped[name].status for name in ("verify.a", "export.b", "verify.b", "report")] == [
        Status.BLOCKED,
        Status.NOT_RUN,
        Status.NOT_RUN,
        BUILT,
    ]
    assert why_of(stopped, "export.b") == ["stopped: export.a failed"]
    going = kitchen.run(export_a={"fault": "boom"}, options={"keep_going": True})
    assert going.exit_code == 1
    assert [going[name].status for name in ("verify.a", "export.b", "verify.b")] == [Status.BLOCKED, BUILT, BUILT]


def test_what_is_up_to_date_counts_also_after_a_failure(kitchen: Kitchen) -> None:
    kitchen.run()
    result = kitchen.run(export_a={"form": "x", "fault": "boom"})
    assert result["export.b"].status == KEPT
    assert result["verify.b"].status == KEPT


def test_a_verdict_that_did_not_pass_blocks_and_is_remembered(kitchen: Kitchen) -> None:
    kitchen.run()
    for calls in (["judge", "report"], []):
        result = kitchen.run(gate={"passes": False})
        assert result.exit_code == 4
        assert result.error is None
        assert calls == toy.CALLS
        assert result["gate"].status == Status.FAILED_VERDICT
        assert result["export.a"].status == Status.BLOCKED
        assert why_of(result, "export.a") == ["gate did not pass"]
        assert sorted(kitchen.linked()) == ["data", "gate", "report", "train"]
        assert json.loads((kitchen.root / "build/toy/gate/verdict.json").read_text())["passed"] is False
    assert kitchen.run().exit_code == 0
    assert sorted(kitchen.linked()) == sorted(ALL)
    assert toy.CALLS == []


def test_a_target_is_linked_only_when_its_judge_passed(kitchen: Kitchen) -> None:
    seen: list[tuple[str, bool]] = []

    def look(event: Event) -> None:
        if event.kind in (EventKind.STARTED, EventKind.LINKED):
            seen.append((f"{event.kind}:{event.target}", "export.a" in kitchen.linked()))

    kitchen.hook = look
    kitchen.run("export.a")
    assert ("started:verify.a", False) in seen
    assert ("linked:export.a", True) in seen
    result = kitchen.run("export.a", verify_a={"passes": False})
    assert result.exit_code == 4
    assert "export.a" not in kitchen.linked()
    assert result["export.a"].status == KEPT
    assert [event.target for event in kitchen.events if event.kind == EventKind.UNLINKED] == ["export.a"]


def test_a_failed_judge_takes_the_link_away(kitchen: Kitchen) -> None:
    kitchen.run("export.a")
    result = kitchen.run("export.a", verify_a={"passes": False, "fault": "boom"})
    assert result.exit_code == 1
    assert "export.a" not in kitchen.linked()
    assert "verify.a" not in kitchen.linked()


def test_other_exports_go_on_with_keep_going_after_a_bad_verdict(kitchen: Kitchen) -> None:
    result = kitchen.run(verify_a={"passes": False})
    assert result["export.b"].status == Status.NOT_RUN
    result = kitchen.run(verify_a={"passes": False}, options={"keep_going": True})
    assert result.exit_code == 4
    assert result["export.b"].status == BUILT
    assert "export.b" in kitchen.linked()
    assert "export.a" not in kitchen.linked()
    report = json.loads((kitchen.root / "build/toy/report/report.json").read_text())
    assert report["verify.a"] is False


def test_an_error_outweighs_a_verdict(kitchen: Kitchen) -> None:
    result = kitchen.run(verify_a={"passes": False}, verify_b={"fault": "data"}, options={"keep_going": True})
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("boom", 1, "train failed: ValueError: the oven"),
        ("memory", 1, "the machine ran out of memory in train"),
        ("gpu-memory", 1, "the machine ran out of memory in train: CUDA out of memory"),
        ("data", 2, "rows.jsonl:3: broken JSON"),
        ("missing", 3, "this needs a GPU"),
        ("full", 1, "big.bin: the disk is full"),
        ("wrapped-full", 1, "the disk is full"),
        ("read-only", 1, "the file system is read-only"),
    ],
)
def test_every_fault_is_named_with_its_code(kitchen: Kitchen, fault: str, code: int, text: str) -> None:
    before = kitchen.run(train={"steps": 2})
    result = kitchen.run(train={"fault": fault}, options={"keep_going": True})
    assert result.exit_code == code
    assert text in str(result.error)
    assert len(str(result.error).splitlines()) <= 3
    assert not [name for name in kitchen.stored() if "." in name]
    old = before["train"].artifact
    assert old is not None
    assert artifact.damaged(artifact.load(old.path), thorough=True) == []
    assert "train" not in kitchen.linked()


def test_a_file_beyond_the_size_limit(kitchen: Kitchen) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        result = kitchen.run("train", train={"fault": "too-large"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert isinstance(result.error, StorageError)
    assert "larger than" in str(result.error)
    assert kitchen.run("train").exit_code == 0


def test_a_read_only_folder(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:  # root may write anywhere, so the system's answer is given by hand
        patch.setattr(os, "mkdir", refuse)
        assert kitchen.plan()["data"].status == Status.WILL_RUN
        with pytest.raises(StorageError, match="the file system is read-only\\nchoose a writable folder"):
            kitchen.run()
    assert kitchen.run().exit_code == 0


def test_storage_that_cannot_be_written_is_one_clear_error(kitchen: Kitchen) -> None:
    (kitchen.root / ".edgeft").write_text("a file is in the way")
    with pytest.raises(StorageError, match=r"\.edgeft"):
        kitchen.run()


def test_something_in_the_way_of_a_link(kitchen: Kitchen) -> None:
    (kitchen.root / "build" / "toy" / "train").mkdir(parents=True)
    (kitchen.root / "build" / "toy" / "train" / "mine.txt").write_text("mine")
    result = kitchen.run("train")
    assert result.exit_code == 1
    assert "in the way" in str(result.error)
    assert (kitchen.root / "build" / "toy" / "train" / "mine.txt").exists()


def test_a_missing_extra_is_told_before_anything_runs(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "missing", lambda extra: ["gguf"])
    with pytest.raises(MissingError, match=r"pip install 'edgeft\[gguf\]'"):
        kitchen.run(stage="needy")
    assert toy.CALLS == []
    result = kitchen.run(stage="needy", options={"keep_going": True})
    assert result.exit_code == 3
    assert result["train"].status == BUILT
    assert kitchen.plan(stage="needy")["export.a"].status == Status.WILL_RUN


def test_a_stage_that_returns_nonsense(kitchen: Kitchen) -> None:
    result = run([Target("x", "wrong", toy._Params())], kitchen.project)
    assert result.exit_code == 1
    assert "returned dict, not an Outcome" in str(result.error)


@pytest.mark.parametrize("fault", ["interrupt", "terminate", "swallowed-interrupt"])
def test_interrupted(kitchen: Kitchen, fault: str) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = kitchen.run(train={"fault": fault})
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert result.exit_code == 130
    assert isinstance(result.error, Interrupted)
    assert statuses(result) == {
        "data": BUILT,
        "train": Status.INTERRUPTED,
        **dict.fromkeys(ALL[2:], Status.NOT_RUN),
    }
    assert not [name for name in kitchen.stored() if name.startswith("train")]
    assert why(kitchen.plan()["train"])[0] == "never built"
    assert why(kitchen.plan()["train"])[1].startswith("was interrupted")
    assert read_run(kitchen.root).state == "interrupted"
    assert kitchen.run().exit_code == 0


def test_interrupted_between_checkpoints_goes_on_from_there(kitchen: Kitchen) -> None:
    def stop(event: Event) -> None:
        if event.progress is not None and event.progress.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    undisturbed = kitchen.run("train", train={"steps": 5}, options={"force": True})
    train = undisturbed["train"].artifact
    assert train is not None
    import shutil

    shutil.rmtree(train.path)
    kitchen.hook = stop
    assert kitchen.run("train", train={"steps": 5}).exit_code == 130
    assert kitchen.scratch() == [train.path.name]
    planned = kitchen.plan("train", train={"steps": 5})["train"]
    assert planned.resumes
    assert why(planned) == ["its artifact is missing", "was interrupted: goes on from there"]
    assert not kitchen.plan("train", train={"steps": 5}, options={"from_scratch": True})["train"].resumes
    kitchen.hook = lambda event: None
    result = kitchen.run("train", train={"steps": 5})
    assert toy.CALLS == ["train", "resumed at 2"]
    assert result["train"].artifact.digest == train.digest  # type: ignore[union-attr]
    assert kitchen.scratch() == []


def test_from_scratch_drops_the_checkpoint(kitchen: Kitchen) -> None:
    kitchen.hook = lambda event: os.kill(os.getpid(), 2) if event.kind == EventKind.PROGRESS else None
    assert kitchen.run("train").exit_code == 130
    kitchen.hook = lambda event: None
    assert kitchen.run("train", options={"from_scratch": True}).exit_code == 0
    assert toy.CALLS == ["train"]


def test_events_tell_the_story(kitchen: Kitchen) -> None:
    kitchen.run("train")
    told = [(str(event.kind), event.target) for event in kitchen.events]
    steps = [("progress", "train")] * 3
    assert told == [
        ("started", "data"),
        ("finished", "data"),
        ("linked", "data"),
        ("started", "train"),
        *steps,
        ("finished", "train"),
        ("linked", "train"),
    ]
    started = [(event.index, event.total) for event in kitchen.events if event.kind == EventKind.STARTED]
    assert started == [(1, 2), (2, 2)]
    kitchen.run("train")
    assert [(str(event.kind), event.target) for event in kitchen.events] == [("skipped", "data"), ("skipped", "train")]


def test_measurements_are_recorded_and_the_stages_own_win(kitchen: Kitchen) -> None:
    result = kitchen.run(train={"pause": 0.02})
    train, export = result["train"].artifact, result["export.a"].artifact
    assert train is not None
    assert export is not None
    assert train.measurements["seconds"] >= 0.06
    assert train.measurements["tokens_per_s"] == 12.0
    assert 5_000_000 < train.measurements["peak_rss_bytes"] < 10**11
    assert export.measurements["seconds"] == 0.5


def test_artifacts_know_what_they_came_from(kitchen: Kitchen) -> None:
    result = kitchen.run()
    train, data = result["train"].artifact, result["data"].artifact
    assert train is not None
    assert data is not None
    assert train.inputs["data"] == {
        "target": "data",
        "kind": "dataset",
        "fingerprint": data.fingerprint,
        "digest": data.digest,
    }
    assert train.inputs["base"]["kind"] == "model"
    assert train.inputs["base"]["ref"] == "./base"
    assert train.params["quantization"] == {"bits": 4, "kind": "nf4"}


def test_a_source_that_changes_while_it_is_read(kitchen: Kitchen) -> None:
    def change(event: Event) -> None:
        if event.kind == EventKind.STARTED and event.target == "data":
            (kitchen.root / "rows.jsonl").write_text("changed\n")

    kitchen.hook = change
    result = kitchen.run("data")
    assert result.exit_code == 2
    assert "changed while it was being read" in str(result.error)
    assert kitchen.stored() == []


def test_an_absent_hub_model_is_planned_as_a_download_and_then_used(kitchen: Kitchen) -> None:
    planned = kitchen.plan(base="org/name")
    assert why(planned["train"]) == [
        "never built",
        "input data will be rebuilt",
        "base model org/name will be downloaded",
    ]
    result = kitchen.run(base="org/name")
    assert result.exit_code == 2
    assert "no org/name on the hub" in str(result.error)
    kitchen.models.remote["org/name"] = (kitchen.root / "base", "c0ffee")
    assert kitchen.run(base="org/name").exit_code == 0
    assert set(statuses(kitchen.run(base="org/name")).values()) == {KEPT}
    kitchen.models.hub["org/name"] = (kitchen.root / "base", "d00d")
    assert why(kitchen.plan(base="org/name")["train"]) == ["base model org/name changed"]


def test_lenient_only_builds_the_report_from_what_there_is(kitchen: Kitchen) -> None:
    kitchen.run("export.a")
    result = kitchen.run("report", options={"lenient_only": True}, export_b={"form": "new"})
    assert result.exit_code == 0
    assert toy.CALLS == ["report"]
    assert result["export.b"].status == Status.NOT_RUN
    report = json.loads((kitchen.root / "build/toy/report/report.json").read_text())
    assert sorted(report) == ["data", "export.a", "gate", "train", "verify.a"]


def test_two_targets_of_the_same_work_are_built_once(kitchen: Kitchen) -> None:
    twins = [
        Target(name, "read", toy.Read.Params(), sources={"text": Source("file", "rows.jsonl")}) for name in ("x", "y")
    ]
    for options in (Options(), Options(force=True)):
        toy.CALLS.clear()
        result = run(twins, kitchen.project, options)
        assert toy.CALLS == ["read"]
        assert result["x"].artifact == result["y"].artifact
    assert set(kitchen.linked()) == {"x", "y"}


def test_planning_is_fast(kitchen: Kitchen) -> None:
    forms = tuple("abcdef")
    kitchen.run(exports=forms)
    made = toy.targets(exports=forms)
    assert len(made) == 16
    plan(made, kitchen.project)
    best = min(_timed(lambda: plan(made, kitchen.project)) for _ in range(5))
    assert best < 0.15


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
