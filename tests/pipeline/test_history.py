"""Records of runs: written whole, read back, compared; nothing secret in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeft.errors import UsageError
from edgeft.pipeline import Event, EventKind, RecipeInfo, Status, diff_runs, list_runs, read_run
from edgeft.pipeline.manifest import scrub
from tests.pipeline.conftest import Kitchen


def test_a_run_is_recorded(kitchen: Kitchen) -> None:
    result = kitchen.run(train={"fault": "boom"})
    run = read_run(kitchen.root)
    assert run.id == result.id
    assert (run.recipe, run.exit_code, run.state) == ("toy", 1, "failed")
    assert run.targets["data"]["status"] == "built"
    assert run.targets["data"]["artifact"] == result["data"].artifact.path.name  # type: ignore[union-attr]
    assert run.targets["data"]["components"]["sources"]["text"]["ref"] == "rows.jsonl"
    assert run.targets["train"]["error"]["text"].startswith("train failed: ValueError: the oven")
    assert run.targets["gate"]["reasons"] == [{"kind": "blocked", "text": "train failed"}]
    assert run.count(Status.BLOCKED) == 5
    environment = run.data["environment"]
    assert {"python", "edgeft", "system", "machine", "cores", "packages"} <= set(environment)
    assert environment["packages"]["pydantic"]


def test_a_record_grows_while_the_run_goes_on(kitchen: Kitchen) -> None:
    seen = []

    def look(event: Event) -> None:
        if event.kind == EventKind.STARTED:
            run = read_run(kitchen.root)
            seen.append((event.target, run.state, run.count(Status.BUILT)))

    kitchen.hook = look
    kitchen.run("gate")
    assert seen == [("data", "running", 0), ("train", "running", 1), ("gate", "running", 2)]
    assert read_run(kitchen.root).state == "ok"


def test_runs_are_listed_newest_first_and_broken_records_left_out(kitchen: Kitchen) -> None:
    ids = [kitchen.run("data").id for _ in range(3)]
    folder = kitchen.root / ".edgeft" / "runs"
    (folder / "29990101-000000-aaaa.json").write_text("{")
    (folder / "29990101-000000-bbbb.json").write_text('{"layout": 99}')
    listed = [run.id for run in list_runs(kitchen.root)]
    assert sorted(listed) == sorted(ids)
    assert listed == sorted(listed, reverse=True)


def test_runs_are_found_by_the_beginning_of_their_id(kitchen: Kitchen) -> None:
    with pytest.raises(UsageError, match="no runs here yet"):
        read_run(kitchen.root)
    one, two = kitchen.run("data").id, kitchen.run("data").id
    assert read_run(kitchen.root, one).id == one
    assert read_run(kitchen.root, two[:-1]).id == two or two[:-1] == one[:-1]
    with pytest.raises(UsageError, match="there is no run 'x'"):
        read_run(kitchen.root, "x")
    with pytest.raises(UsageError, match="is the beginning of 2 runs"):
        read_run(kitchen.root, "2")


def test_the_difference_of_two_runs(kitchen: Kitchen) -> None:
    first = kitchen.run()
    (kitchen.root / "rows.jsonl").write_text("other\n")
    kitchen.project = replace(kitchen.project, recipe=RecipeInfo("toy", "toy.yaml", "a: 2\n", ("train.steps=4",)))
    second = kitchen.run("gate", train={"steps": 4})
    told = [
        str(each)
        for each in diff_runs(read_run(kitchen.root, first.id), read_run(kitchen.root, second.id))
        if each.kind != "measurement"
    ]
    assert "overrides none → train.steps=4" in told
    assert "data: file rows.jsonl changed" in told
    assert "train: steps 3 → 4" in told
    assert "train: input data changed" in told
    assert "data: rows 2 → 1" in told
    assert "report: only in the first run" in told
    assert any(text.startswith("train: digest ") for text in told)
    assert not any(text.startswith("python") for text in told)


def test_two_equal_runs_differ_in_nothing(kitchen: Kitchen) -> None:
    one, two = kitchen.run(), kitchen.run()
    assert diff_runs(read_run(kitchen.root, one.id), read_run(kitchen.root, two.id)) == []


def test_verdicts_and_measurements_are_compared(kitchen: Kitchen) -> None:
    one = kitchen.run("gate").id
    two = kitchen.run("gate", gate={"passes": False}).id
    told = [str(each) for each in diff_runs(read_run(kitchen.root, one), read_run(kitchen.root, two))]
    assert "gate: passes true → false" in told
    assert "gate: passed true → false" in told
    assert "gate: score 0.75 → 0.5" in told
    kitchen.run("gate", options={"force": True})
    kinds = {each.kind for each in diff_runs(read_run(kitchen.root, one), read_run(kitchen.root))}
    assert kinds == {"measurement"}


def test_nothing_secret_is_kept(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ["hf_abcdefghijklmnopqrstuvwx", "hunter2hunter2", "s3cr3tpassw0rd"]
    monkeypatch.setenv("MY_TOKEN", secrets[1])
    text = f"base: https://me:{secrets[2]}@host/x\n# {secrets[0]}\n"
    recipe = RecipeInfo("toy", "toy.yaml", text, (f"hub.token={secrets[0]}",))
    kitchen.project = replace(kitchen.project, recipe=recipe)
    kitchen.run()
    kept = "".join(path.read_text() for path in (kitchen.root / ".edgeft" / "runs").glob("*.json"))
    kept += "".join(path.read_text() for path in (kitchen.root / ".edgeft" / "store").glob("*/artifact.json"))
    assert not [secret for secret in secrets if secret in kept]
    assert "host/x" in kept


def test_scrub_leaves_ordinary_text_alone() -> None:
    text = "base_model: org/name-1.5B\nlearning_rate: 2e-4\nmax_tokens: 128\nurl: https://host:80/a@b\n"
    assert scrub(text) == text


def test_long_facts_stay_out_of_the_record(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.artifact import Outcome
    from tests.pipeline import toy

    run = toy.Judge.run

    def wordy(*given: object) -> Outcome:
        return replace(run(*given), facts={"table": "x" * 10_000, "score": 1.0})  # type: ignore[arg-type]

    monkeypatch.setattr(toy.Judge, "run", staticmethod(wordy))
    kitchen.run("gate")
    assert read_run(kitchen.root).targets["gate"]["facts"] == {"score": 1.0}


def test_a_record_that_cannot_be_written_does_not_fail_the_run(kitchen: Kitchen) -> None:
    def spoil(event: Event) -> None:
        if event.kind == EventKind.STARTED and event.target == "train":
            folder = kitchen.root / ".edgeft" / "runs"
            folder.rename(folder.with_name("gone"))
            folder.write_text("a file")

    kitchen.hook = spoil
    result = kitchen.run("train")
    assert result.exit_code == 0
    assert "could not be written" in " ".join(event.message for event in kitchen.events)


def test_the_record_holds_no_absolute_path_of_the_store(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.run()
    for path in (kitchen.root / ".edgeft" / "store").glob("*/artifact.json"):
        assert str(tmp_path) not in json.dumps(json.loads(path.read_text()))
