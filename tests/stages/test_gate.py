from __future__ import annotations

from pathlib import Path

import pytest

from edgeft import files
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers


def test_a_better_model_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(answers(0.0)), FakeRuntime(answers(1.0)))
    found = made.gate("task.exact_match >= 0.90", "general.exact_match drop <= 0.03")
    assert found.passed
    assert found.kind == "verdict"
    assert found.facts == {"sentence": "the tuned model passes 2 checks; 1 undecided: too few rows to tell", "why": []}
    verdict = files.read_json(found.file("verdict.json"))
    assert verdict["passed"]
    assert [check["gate"] for check in verdict["checks"]] == [
        "task.exact_match >= 0.90",
        "general.exact_match drop <= 0.03",
    ]


def test_a_worse_model_fails_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over-trained: good at the task, it has forgotten most of what the base could do."""
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(answers(0.0, 1.0)), FakeRuntime(answers(1.0, 0.4)))
    found = made.gate("task.exact_match >= 0.90", "general.exact_match drop <= 0.03")
    assert not found.passed
    assert found.facts["sentence"] == "the tuned model fails 1 of 2 checks"
    (why,) = found.facts["why"]
    assert why.startswith(
        "general.exact_match drop <= 0.03: general.exact_match went from 1 to 0.4, a drop of 0.6 (95 %"
    )
    (bad,) = [check for check in files.read_json(found.file("verdict.json"))["checks"] if not check["passed"]]
    assert (bad["status"], bad["base"], bad["value"], bad["n"]) == ("failed", 1.0, 0.4, 40)
    assert bad["low"] < 0.6 < bad["high"]
    assert bad["p_value"] < 0.001


def test_what_undecided_means_is_the_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for policy, passed in (("estimate", True), ("pass", True), ("fail", False)):
        made = MadeRun(tmp_path / policy, monkeypatch)
        made.evaluate(FakeRuntime(answers(0.0)), FakeRuntime(answers(0.95)))
        found = made.gate("task.exact_match >= 0.90", undecided=policy)
        assert files.read_json(found.file("verdict.json"))["checks"][0]["status"] == "undecided"
        assert found.passed is passed
