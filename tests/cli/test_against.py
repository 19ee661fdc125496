"""`edgeft eval --against`: the comparison, gates, and what is refused before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli.against import compare, earlier, refuse_unfit
from edgeft.cli.main import main
from edgeft.errors import InputError, UsageError
from edgeft.evals.statistics import mcnemar
from edgeft.evals.suites import Case, Suite
from edgeft.recipe.gates import parse


def rows(right: int, n: int = 40, suite: str = "task") -> list[dict[str, Any]]:
    return [
        {
            "suite": suite, "id": str(i), "group": "", "expected": "x", "scores": {"exact_match": float(i < right)},
            "loss": 1.0 + i % 3, "tokens": 2,
        }
        for i in range(n)
    ]  # fmt: skip


def test_every_difference_is_told_and_adjusted() -> None:
    found = compare(rows(40), rows(30), [parse("task.exact_match drop <= 0.05", {"task": ("exact_match", "loss")}, [])])
    exact, loss = found.differences
    assert (exact["metric"], exact["value"], exact["n"]) == ("exact_match", -0.25, 40)
    assert exact["p_value"] == pytest.approx(mcnemar([1.0] * 40, [1.0] * 30 + [0.0] * 10))
    assert exact["p_adjusted"] == pytest.approx(2 * exact["p_value"], abs=1e-6)
    assert (loss["value"], loss["p_adjusted"]) == (0.0, 1.0)
    assert [(check.status, check.base) for check in found.checks] == [("failed", 1.0)]
    with pytest.raises(InputError, match="none of these suites"):
        compare(rows(1, suite="other"), rows(1), [])


def test_what_cannot_be_judged_is_refused() -> None:
    suites = [Suite("task", (Case("1", ({"role": "user", "content": "q"},), "x"),), ("exact_match",))]
    with pytest.raises(UsageError, match="--gate compares"):
        refuse_unfit(["task.exact_match drop <= 0.1"], suites, None)
    with pytest.raises(UsageError, match="unknown suite 'tsk'"):
        refuse_unfit(["tsk.exact_match drop <= 0.1"], suites, [])
    with pytest.raises(UsageError, match="recipes only"):
        refuse_unfit(["drift.mean_kl <= 0.1"], suites, [])


def test_there_must_be_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no evaluation here"):
        earlier(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there are no runs here yet"):
        earlier("20260101")


def test_on_the_command_line(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = tmp_path / "ask.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": str(i)}]} for i in range(3)
    ]
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = ["eval", str(tiny_llama), "--suite", str(asked), "--max-tokens", "2"]
    assert main([*common, "--out", str(tmp_path / "first")]) == 0
    capsys.readouterr()
    gates = ["--gate", "ask.loss rise <= 1%", "--gate", "ask.exact_match >= 0.9"]
    assert main([*common, "--against", str(tmp_path / "first"), *gates]) == 4
    printed = capsys.readouterr()
    assert "against before" in printed.out
    assert "passed     ask.loss rise <= 1%" in printed.out
    assert "1 of 2 gates failed: ask.exact_match >= 0.9" in printed.err
    assert main([*common, "--against", str(tmp_path / "first"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert [entry["value"] for entry in found["differences"]] == [0.0, 0.0]
