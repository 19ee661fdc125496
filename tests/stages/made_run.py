"""A whole run without a model: the judging stages over fake runtimes, each outcome finished into an artifact.

made = MadeRun(tmp_path, monkeypatch)
made.evaluate(base, tuned); made.gate("task.exact_match >= 0.9"); made.verify("gguf-q8_0", file); made.report()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.evals import suites as packaged
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.gates import parse
from edgeft.recipe.judging import Suite, suite_metrics
from edgeft.stages import eval as eval_stage
from edgeft.stages import gate as gate_stage
from edgeft.stages import probe as probe_stage
from edgeft.stages import report as report_stage
from edgeft.stages import verify as verify_stage
from tests.evals.fakes import FakeRuntime, conversation

SUITES = {"task": Suite(rows="test"), "general": Suite(rows="builtin:general")}
METRICS = suite_metrics(SUITES)
EXPORTS = ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m", "onnx-fp32", "onnx-int4")
ROOMS = ("kitchen", "hall", "attic", "cellar", "bedroom")


def task_rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        conversation(
            f"make it {20 + i} degrees in the {ROOMS[i % 5]}",
            f'{{"tool": "heating", "room": "{ROOMS[i % 5]}", "value": {20 + i}}}',
            f"test.jsonl:{i + 1}",
        )
        for i in range(count)
    ]


def general_rows(family: str, count: int = 20) -> list[dict[str, Any]]:
    return [conversation(f"{family} {i}: what is next?", f"{i + 1}", str(i)) for i in range(count)]


def answers(share: float = 1.0, general: float = 1.0) -> dict[str, str]:
    """Right answers to that share of the rows of each suite."""
    known: dict[str, str] = {}
    for part, rows in (
        (share, task_rows()),
        (general, general_rows("ordering")),
        (general, general_rows("arithmetic")),
    ):
        known |= {
            row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows[: round(part * len(rows))]
        }
    return known


def hostile_rows(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    return [{**row, "messages": [{"role": "user", "content": text}, row["messages"][1]]} for row in rows]


class MadeRun:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | None = None) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.artifacts: dict[str, Artifact] = {}
        general = folder / "general"
        general.mkdir(parents=True)
        for family in ("arithmetic", "ordering"):
            files.write_jsonl(general / f"{family}.jsonl", general_rows(family))
        monkeypatch.setitem(packaged.BUILTINS, "general", general)
        rows = rows or task_rows()
        self._data(rows)
        self._adapter()

    def _data(self, rows: list[dict[str, Any]]) -> None:
        work = self._work("data")
        for split in ("train", "validation", "test"):
            files.write_jsonl(work.folder / f"{split}.jsonl", rows)
        length = {"p50": 40, "max": 61}
        counts = {"rows": len(rows), "tokens": 4000, "trained_tokens": 900, "length": length, "too_long": {"rows": 0}}
        stats = {"splits": dict.fromkeys(("train", "test"), counts), "leakage": {"test": {"rows": 3}}}
        files.write_json(work.folder / "stats.json", stats)
        self._finish("data", work, Outcome("dataset"), {}, {"sequence_len": 256, "datasets": [{"path": "train.jsonl"}]})

    def _adapter(self) -> None:
        work = self._work("train")
        points: list[dict[str, Any]] = []
        for step in range(10, 200, 10):
            points.append({"step": step, "loss": round(3.2 * 0.97**step + 0.04, 4), "learning_rate": 2e-3})
            if step % 60 == 0:
                points.append({"step": step, "eval_loss": round(3.1 * 0.97**step + 0.06, 4)})
        files.write_jsonl(work.folder / "curve.jsonl", points)
        files.write_json(work.folder / "training.json", {"base": {"ref": "builtin:sprout"}, "quantization": "nf4"})
        self._finish(
            "train",
            work,
            Outcome("adapter", measurements={"tokens_per_second": 5100}),
            {"data": "data"},
            {"lora_r": 16},
        )

    def _work(self, name: str) -> Work:
        folder = self.folder / name
        folder.mkdir()
        scratch = self.folder / f"{name}.scratch"
        scratch.mkdir(exist_ok=True)
        return Work(folder, scratch)

    def _finish(
        self, name: str, work: Work, outcome: Outcome, inputs: Mapping[str, str], params: Mapping[str, Any]
    ) -> Artifact:
        made_of = {
            role: {"target": target, "kind": found.kind, "fingerprint": found.fingerprint, "digest": found.digest}
            for role, target in inputs.items()
            if (found := self.artifacts.get(target)) is not None
        } | {"base": {"source": "model", "ref": "builtin:sprout", "digest": files.digest_text("base")}}
        artifact.finish(
            work.folder,
            outcome,
            stage=name.partition(".")[0],
            fingerprint=files.digest_text(name),
            params=params,
            inputs=made_of,
            environment={"python": "3.11", "packages": {"torch": "2.13"}},
        )
        self.artifacts[name] = artifact.load(work.folder)
        return self.artifacts[name]

    def _run(self, name: str, stage: Any, params: Any, inputs: Mapping[str, str]) -> Artifact:
        work = self._work(name)
        given = {role: self.artifacts[target] for role, target in inputs.items() if target in self.artifacts}
        outcome = stage.run(params, Inputs(given, {"base": Path("base")}), work)
        return self._finish(name, work, outcome, inputs, params.model_dump(mode="json"))

    def evaluate(self, base: FakeRuntime, tuned: FakeRuntime) -> None:
        self._patch.setattr(eval_stage, "open_model", lambda inputs: tuned if inputs.get("adapter") else base)
        self._patch.setattr(probe_stage, "open_base", lambda inputs: base)
        self._patch.setattr(probe_stage, "open_tuned", lambda inputs: tuned)
        params = eval_stage.Params(suites=SUITES)
        self._run("eval.base", eval_stage, params, {"data": "data"})
        self._run("eval.tuned", eval_stage, params, {"data": "data", "adapter": "train"})

    def probe(self, **params: Any) -> Artifact:
        """What the models given to `evaluate` are asked besides the suites."""
        return self._run("probe", probe_stage, probe_stage.Params(**params), {"adapter": "train", "data": "data"})

    def gate(self, *lines: str, undecided: Any = "estimate") -> Artifact:
        checks = [parse(line, METRICS, EXPORTS) for line in lines]
        params = gate_stage.Params(checks=checks, undecided=undecided)
        return self._run("gate", gate_stage, params, {"base": "eval.base", "tuned": "eval.tuned", "probe": "probe"})

    def verify(
        self, name: str, file: FakeRuntime, trained: FakeRuntime, *lines: str, size: int = 7_000_000
    ) -> Artifact:
        work = self._work(f"export.{name}")
        with (work.folder / "model.gguf").open("wb") as stream:
            stream.truncate(size)
        form, _, precision = name.partition("-")
        self._finish(f"export.{name}", work, Outcome(form), {"adapter": "train"}, {"format": form, "type": precision})
        self._patch.setattr(verify_stage, "open_model", lambda inputs: trained)
        self._patch.setattr(verify_stage, "open_export", lambda export: file)
        self._patch.setattr(verify_stage, "_conversion", lambda inputs, work: None)
        checks = [parse(line, METRICS, EXPORTS) for line in lines]
        params = verify_stage.Params(rows="test", limit=12, suites={"task": SUITES["task"]}, checks=checks)
        inputs = {"export": f"export.{name}", "adapter": "train", "data": "data", "tuned": "eval.tuned"}
        return self._run(f"verify.{name}", verify_stage, params, inputs)

    def report(self, **params: Any) -> Artifact:
        return self._run("report", report_stage, report_stage.Params(**params), {name: name for name in self.artifacts})
