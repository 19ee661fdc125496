"""Two runs side by side: rows by content, metrics paired where the rows are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft import files
from edgeft.evals import statistics
from edgeft.stages.compared import data_changes, metric_changes
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers, task_rows


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, share: float, count: int = 40) -> MadeRun:
    run = MadeRun(folder, monkeypatch, task_rows(count))
    run.evaluate(FakeRuntime(), FakeRuntime(answers(share)))
    return run


def test_metrics_are_paired_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = made(tmp_path / "a", monkeypatch, 0.9), made(tmp_path / "b", monkeypatch, 0.5)
    found = {(e["target"], e["suite"], e["metric"]): e for e in metric_changes(one.artifacts, two.artifacts)}
    entry = found["eval.tuned", "task", "exact_match"]
    assert (entry["a"]["value"], entry["b"]["value"]) == (0.9, 0.5)
    assert entry["change"]["value"] == pytest.approx(-0.4)
    before, after = [1.0] * 36 + [0.0] * 4, [1.0] * 20 + [0.0] * 20
    assert entry["change"]["p_value"] == pytest.approx(statistics.mcnemar(before, after), abs=1e-6)
    assert found["eval.base", "general/ordering", "exact_match"]["change"]["value"] == 0


def test_other_rows_are_not_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = made(tmp_path / "a", monkeypatch, 1.0), made(tmp_path / "b", monkeypatch, 1.0, count=30)
    found = {(e["target"], e["suite"], e["metric"]): e for e in metric_changes(one.artifacts, two.artifacts)}
    assert found["eval.tuned", "task", "exact_match"]["change"] is None
    assert found["eval.tuned", "general", "exact_match"]["change"] is not None
    alone = metric_changes(one.artifacts, {})
    assert alone[0]["b"] is None
    assert alone[0]["change"] is None


def test_rows_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = MadeRun(tmp_path / "a", monkeypatch), MadeRun(tmp_path / "b", monkeypatch)
    path = two.artifacts["data"].path / "train.jsonl"
    rows = task_rows()
    changed = {**rows[1], "messages": rows[2]["messages"][:1]}
    moved = {**rows[39], "id": "test.jsonl:99"}
    files.write_jsonl(path, [rows[0], changed, *rows[3:39], moved, {**rows[5], "id": "new", "messages": []}])
    found = data_changes(one.artifacts["data"], two.artifacts["data"])
    assert {key: found["train"][key] for key in ("rows", "added", "removed", "changed")} == {
        "rows": [40, 40], "added": 1, "removed": 1, "changed": 1,
    }  # fmt: skip
    assert found["train"]["examples"][0] == "test.jsonl:2"
    assert found["test"]["changed"] == found["test"]["added"] == 0
    assert data_changes(None, two.artifacts["data"]) == {}
