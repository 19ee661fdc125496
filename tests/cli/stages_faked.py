"""The recipe's stages with instant results in the real files' forms, so that the command line can be tested whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import files
from edgeft.artifact import Outcome
from edgeft.evals.scores import write_rows
from edgeft.pipeline.stage import Inputs, Work
from edgeft.progress import Progress

RECIPE = """\
base_model: builtin:sprout
data:
  datasets: [{path: rows.jsonl}]
  test: [{path: test.jsonl}]
train:
  learning_rate: 2e-4
gate: [task.exact_match >= 0.5]
export: [gguf-q8_0]
"""
ROW = {"messages": [{"role": "user", "content": "light on"}, {"role": "assistant", "content": "{}"}]}
RunStage = Callable[[Any, Inputs, Work], Outcome]


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """A recipe and its rows in `folder`; returns the recipe's path."""
    for name in ("rows.jsonl", "test.jsonl"):
        (folder / name).write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    recipe = folder / "r.yaml"
    recipe.write_text(text, encoding="utf-8")
    return recipe


def data(params: Any, inputs: Inputs, work: Work) -> Outcome:
    files.write_jsonl(work.folder / "train.jsonl", [{"id": "rows.jsonl:1", **ROW}])
    files.write_json(work.folder / "stats.json", {})
    return Outcome("dataset", facts={"rows": 1})


def train(params: Any, inputs: Inputs, work: Work) -> Outcome:
    work.listen(Progress(1, 2, "step", "training", {"loss": "1.0"}))
    files.write_json(work.folder / "adapter_config.json", {"learning_rate": params.learning_rate})
    return Outcome("adapter", facts={"steps": 2}, measurements={"tokens_per_second": 1 / params.learning_rate})


def evaluate(params: Any, inputs: Inputs, work: Work) -> Outcome:
    value = 0.9 if "adapter" in inputs.artifacts else 0.1
    score = {"value": value, "n": 10, "low": value - 0.05, "high": value + 0.05}
    write_rows(work.folder / "rows.parquet", [])
    files.write_json(work.folder / "summary.json", {"task": {"exact_match": score}})
    return Outcome("evaluation")


def gate(params: Any, inputs: Inputs, work: Work) -> Outcome:
    return _verdict(work, [_check("task.exact_match >= 0.5", passed=True)])


def failing_gate(params: Any, inputs: Inputs, work: Work) -> Outcome:
    return _verdict(work, [_check("task.exact_match >= 0.5", passed=False)])


def probe(params: Any, inputs: Inputs, work: Work) -> Outcome:
    files.write_json(work.folder / "figures.json", {})
    return Outcome("probe")


def export(params: Any, inputs: Inputs, work: Work) -> Outcome:
    (work.folder / f"tiny-{params.type}.gguf").write_bytes(b"GGUF" + bytes(1000))
    return Outcome("gguf", facts={"type": params.type})


def verify(params: Any, inputs: Inputs, work: Work) -> Outcome:
    return _verdict(work, [_check("token ids equal", passed=True)])


def report(params: Any, inputs: Inputs, work: Work) -> Outcome:
    (work.folder / "report.html").write_text("<html></html>", encoding="utf-8")
    files.write_json(work.folder / "report.json", {})
    return Outcome("report", volatile=("report.html",))


def _check(line: str, *, passed: bool) -> dict[str, Any]:
    status = "passed" if passed else "failed"
    return {"gate": line, "status": status, "passed": passed, "value": 0.4, "base": None, "limit": 0.5, "low": 0.3,
            "high": 0.5, "n": 10, "detail": "0.4 of 10 rows"}  # fmt: skip


def _verdict(work: Work, checks: list[dict[str, Any]]) -> Outcome:
    passed = all(check["passed"] for check in checks)
    sentence = "it passes" if passed else "the tuned model fails 1 of 1 check"
    files.write_json(work.folder / "verdict.json", {"passed": passed, "sentence": sentence, "checks": checks})
    why = [f"{check['gate']}: {check['detail']}" for check in checks if not check["passed"]]
    return Outcome("verdict", facts={"sentence": sentence, "why": why}, passed=passed)


STAGES: dict[str, RunStage] = {
    "data": data, "train": train, "eval": evaluate, "probe": probe, "gate": gate, "export": export, "verify": verify,
    "report": report,
}  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, **replaced: RunStage) -> None:
    """Put the instant stages in the place of the real ones."""
    for stage, run in (STAGES | replaced).items():
        monkeypatch.setattr(f"edgeft.stages.{stage}.run", run)
