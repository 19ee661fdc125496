"""A recipe with a head for labels, stage by stage on a tiny model: what it is asked, what it says, what the report
shows."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.cli.main import main
from edgeft.cli.shipped import files_and_commands
from edgeft.errors import ModelError
from edgeft.evals.scores import read_rows
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.dataset import DatasetEntry
from edgeft.recipe.gates import parse
from edgeft.recipe.judging import Suite
from edgeft.runtimes import open_any, open_runtime
from edgeft.runtimes.classifier import open_classifier
from edgeft.stages import data as data_stage
from edgeft.stages import eval as eval_stage
from edgeft.stages import export as export_stage
from edgeft.stages import gate as gate_stage
from edgeft.stages import merge as merge_stage
from edgeft.stages import report as report_stage
from tests.training.made import run_training

LABELS = ("off", "on")


def rows(start: int, count: int) -> list[dict[str, Any]]:
    """Two thirds of the rows say on."""
    found = []
    for i in range(start, start + count):
        label = "off" if i % 3 == 0 else "on"
        found.append({"text": f"light {i} {label} {label} {label}", "label": label})
    return found


class Made:
    """Artifacts by target name, finished as the pipeline finishes them."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        self.artifacts: dict[str, Artifact] = {}

    def work(self, name: str) -> Work:
        for part in (name, f"{name}.scratch"):
            (self.folder / part).mkdir(parents=True)
        return Work(self.folder / name, self.folder / f"{name}.scratch")

    def finish(self, name: str, work: Work, outcome: Outcome) -> Artifact:
        stage = name.partition(".")[0]
        artifact.finish(
            work.folder, outcome, stage=stage, fingerprint=files.digest_text(name), params={}, inputs={}, environment={}
        )
        self.artifacts[name] = artifact.load(work.folder)
        return self.artifacts[name]

    def run(self, name: str, stage: Any, params: Any, **inputs: str) -> Artifact:
        work = self.work(name)
        given = {role: self.artifacts[target] for role, target in inputs.items()}
        return self.finish(name, work, stage.run(params, Inputs(given, {"base": self.base}), work))


@pytest.fixture(scope="module")
def made(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("labelled")
    found = Made(place, tiny_llama)
    sources = {"base": tiny_llama}
    for key, (start, count) in {"datasets.0": (0, 48), "validation.0": (48, 12), "test.0": (60, 30)}.items():
        sources[key] = place / f"{key}.jsonl"
        files.write_jsonl(sources[key], rows(start, count))
    entry = [DatasetEntry(path="rows.jsonl", type="classification")]
    params = data_stage.Params(
        datasets=entry, validation=entry, test=entry, sequence_len=128, objective="classification"
    )
    work = found.work("data")
    found.finish("data", work, data_stage.run(params, Inputs(sources=sources), work))
    work = found.work("train")
    settings = {"objective": "classification", "adapter": "lora", "max_steps": 20, "learning_rate": 5e-3}
    run_training(work.folder, tiny_llama, found.artifacts["data"].path, scratch=work.scratch, **settings)
    found.finish("train", work, Outcome("adapter"))
    suites = {"task": Suite(rows="test").of_head("classification")}
    params_of_eval = eval_stage.Params(suites=suites, latency_rows=3)
    found.run("eval.base", eval_stage, params_of_eval, data="data")
    found.run("eval.tuned", eval_stage, params_of_eval, data="data", adapter="train")
    known = {"task": ("accuracy", "macro_f1", "loss")}
    lines = [parse(line, known, []) for line in ("task.accuracy >= 0.8", "task.accuracy rise >= 0.1")]
    found.run("gate", gate_stage, gate_stage.Params(checks=lines), base="eval.base", tuned="eval.tuned")
    names = list(found.artifacts)
    found.run("report", report_stage, report_stage.Params(), **{name: name for name in names})
    return found


def test_the_base_says_the_most_frequent_label(made: Made) -> None:
    summary = files.read_json(made.artifacts["eval.base"].file("summary.json"))
    assert summary["task"]["accuracy"]["value"] == pytest.approx(20 / 30)
    assert made.artifacts["eval.base"].facts["runtime"] == "most frequent label"
    read = read_rows(made.artifacts["eval.base"].file("rows.parquet"))
    assert {row["answer"] for row in read} == {"on"}
    shares = {choice["text"]: np.exp(choice["logprob"]) for choice in read[0]["choices"]}
    assert shares == pytest.approx({"off": 17 / 50, "on": 33 / 50}, abs=1e-5)


def test_the_tuned_model_is_asked_itself(made: Made, tiny_llama: Path) -> None:
    read = read_rows(made.artifacts["eval.tuned"].file("rows.parquet"))
    with open_classifier(tiny_llama, made.artifacts["train"].path, device="cpu") as classifier:
        shares = classifier.classify([row["rendered"] for row in read])
        assert classifier.labels == LABELS
    assert [row["answer"] for row in read] == [LABELS[i] for i in shares.argmax(axis=1)]
    said = np.exp([[choice["logprob"] for choice in row["choices"]] for row in read])
    assert np.allclose(said, shares, atol=1e-5)
    speed = files.read_json(made.artifacts["eval.tuned"].file("speed.json"))
    assert speed["latency"]["answers"] == 3


def test_it_is_gated_and_told(made: Made) -> None:
    assert made.artifacts["gate"].passed
    found = files.read_json(made.artifacts["report"].file("report.json"))
    (one,) = found["labels"]
    assert [entry["label"] for entry in one["labels"]] == list(LABELS)
    assert np.sum(one["confusion"]) == 30
    page = made.artifacts["report"].file("report.html").read_text(encoding="utf-8")
    assert "Label by label" in page
    assert "skill by skill" not in page  # labels are no skills of the base
    markdown = made.artifacts["report"].file("report.md").read_text(encoding="utf-8")
    assert re.search(r"^\| task \| rows \| precision \| recall \| F1 \| given: off \| on \|$", markdown, re.MULTILINE)
    card = made.artifacts["report"].file("cards/adapter/README.md").read_text(encoding="utf-8")
    assert '"type": "text-classification"' in card


def test_a_head_writes_no_answers(made: Made, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = made.artifacts["train"].path
    monkeypatch.setattr("edgeft.runtimes._base_of", lambda path, base: tiny_llama)
    with pytest.raises(ModelError, match="this has a classification head: it gives labels and writes no answers"):
        open_runtime(adapter)
    with open_any(adapter) as found:
        assert found.labels == LABELS  # type: ignore[union-attr]
    lines = list(files_and_commands({"train": made.artifacts["train"]}, {"train": Path("build/r/train")}, "r"))
    assert "  edgeft eval build/r/train --kind classification --suite ROWS.jsonl" in lines
    assert not any("edgeft chat" in line for line in lines)


@pytest.mark.parametrize("name", ["gguf-q8_0", "lora-f16", "merge"])
def test_what_holds_a_language_model_cannot_hold_a_head(made: Made, name: str, tmp_path: Path) -> None:
    format_, _, type_ = name.partition("-")
    inputs, work = Inputs({"adapter": made.artifacts["train"]}, {"base": made.base}), Work(tmp_path, tmp_path)
    run: Any = partial(export_stage.run, export_stage.Params(format=format_, type=type_))
    if name == "merge":
        run = partial(merge_stage.run, merge_stage.Params())
    with pytest.raises(ModelError) as error:
        run(inputs, work)
    what = "a merged checkpoint" if name == "merge" else name
    said = f"{what} holds a language model, and this adapter puts a head for labels on it"
    do = "such a head ships as onnx-fp32, onnx-fp16, onnx-int8, onnx-int4; the adapter itself opens in peft"
    assert str(error.value) == f"{made.artifacts['train'].path}: {said}\n{do}"
    assert not list(tmp_path.iterdir())


def test_edgeft_eval_asks_a_head(
    made: Made, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "more.jsonl"
    files.write_jsonl(mine, rows(90, 9))
    command = ["eval", str(made.artifacts["train"].path), "--base", str(tiny_llama), "--suite", str(mine), "--json"]
    for form in ([], ["--type", "classification"]):
        assert main([*command, "--kind", "classification", *form]) == 0, capsys.readouterr().err
        figures = json.loads(capsys.readouterr().out)["summary"]["more"]
        assert set(figures) == {"accuracy", "macro_f1", "loss"}
        assert figures["accuracy"]["n"] == 9
    assert main([*command, "--type", "classification"]) == 2
    assert "has a classification head and writes no answers" in capsys.readouterr().err


def test_a_base_with_the_same_head_is_asked_itself(made: Made, tmp_path: Path) -> None:
    from edgeft.models.open import open_tuned
    from edgeft.stages.labelled import open_head

    open_tuned(made.base, made.artifacts["train"].path, device="cpu").merge_and_unload().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((made.base / name).read_bytes())
    with open_head(Inputs({"data": made.artifacts["data"]}, {"base": tmp_path})) as head:
        assert (head.name, head.labels) == ("hf", LABELS)
