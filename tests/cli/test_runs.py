"""`edgeft runs list|show|diff|gc` over the records of two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.cli.main import main
from tests.cli import stages_faked

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> list[str]:
    """Two runs of one recipe, the second with another learning rate; their ids, the older first."""
    monkeypatch.chdir(tmp_path)
    stages_faked.install(monkeypatch)
    stages_faked.write_recipe(tmp_path)
    ids = []
    for extra in ([], ["--set", "train.learning_rate=1e-4"]):
        assert main(["run", "r.yaml", "--json", *extra]) == 0
        ids.append(json.loads(capsys.readouterr().out)["run"])
    return ids


def test_list(runs: list[str], capsys: Captured) -> None:
    assert main(["runs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RUN", "RECIPE", "STATE", "BUILT", "TIME"]
    assert {line.split()[0]: line.split()[1:4] for line in lines[1:]} == {
        runs[0]: ["r", "ok", "9/9"],
        runs[1]: ["r", "ok", "6/9"],  # train, eval.tuned, probe, export, verify, report
    }
    assert main(["runs", "list", "--json", "--limit", "1"]) == 0
    (newest,) = json.loads(capsys.readouterr().out)
    assert newest["id"] in runs
    assert newest["exit_code"] == 0


def test_show(runs: list[str], capsys: Captured) -> None:
    assert main(["runs", "show", runs[1]]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{runs[1]}  r.yaml  ")
    assert "  --set train.learning_rate=1e-4" in out
    assert "      learning_rate 0.0002 → 0.0001" in out
    assert max(map(len, out.splitlines())) <= 80
    assert main(["runs", "show", runs[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == runs[0]


def test_diff(runs: list[str], capsys: Captured) -> None:
    assert main(["runs", "diff", *runs]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{runs[0]} → {runs[1]}\n")
    assert "  train\n      learning_rate 0.0002 → 0.0001\n" in out
    assert "peak_rss" not in out
    assert main(["runs", "diff", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"]["train"] == {"rows": [1, 1], "added": 0, "removed": 0, "changed": 0, "examples": []}
    metrics = {(one["target"], one["metric"]): one for one in found["metrics"]}
    assert metrics["eval.tuned", "exact_match"]["a"]["value"] == 0.9
    kinds = {one["kind"] for one in found["differences"]}
    assert {"parameter", "input", "measurement"} <= kinds


def test_an_unknown_run(runs: list[str], capsys: Captured) -> None:
    assert main(["runs", "show", "nope"]) == 2
    assert capsys.readouterr().err == "edgeft: there is no run 'nope'\n  edgeft runs list shows them\n"


def test_no_runs_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "list"]) == 0
    assert capsys.readouterr().out == "no runs here yet; start one with: edgeft run RECIPE\n"


def test_gc_says_before_it_does(runs: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["runs", "gc", "--keep-days", "0", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would free" in out
    before = sorted(path.name for path in Path(".edgeft/store").iterdir())
    assert main(["runs", "gc", "--keep-days", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    after = sorted(path.name for path in Path(".edgeft/store").iterdir())
    removed = {Path(item["path"]).name for item in told["items"]}
    assert removed == set(before) - set(after)
    assert any(name.startswith("train-") for name in removed)  # of the first run: nothing links to it
    assert Path("build/r/train").resolve().is_dir()
