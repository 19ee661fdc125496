from __future__ import annotations

from pathlib import Path

import pytest

from edgeft import files
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages import report as stage
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers


def test_it_runs_with_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    outcome = stage.run(stage.Params(), Inputs(), Work(tmp_path / "work", tmp_path / "scratch"))
    assert outcome.facts["state"] == "unfinished"
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["report.html", "report.json", "report.md"]


def test_title_and_samples_reach_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers()))
    report = made.report(title="my recipe", samples=2)
    found = files.read_json(report.file("report.json"))
    assert (found["title"], len(found["samples"])) == ("my recipe", 2)
    assert [said["who"] for said in found["samples"][0]["answers"]] == ["base", "tuned"]
    assert "my recipe" in report.file("report.html").read_text(encoding="utf-8")


def test_the_worst_regressions_are_the_rows_that_were_right_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(answers(1.0, 1.0)), FakeRuntime(answers(0.9, 1.0)))
    worse = files.read_json(made.report().file("report.json"))["regressions"]
    assert [sample["id"] for sample in worse] == [f"test.jsonl:{number}" for number in range(37, 41)]
    assert {(sample["before"], sample["after"]) for sample in worse} == {("base", "tuned")}
