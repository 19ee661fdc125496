"""A recipe that ships a head for labels, from rows to verified ONNX files; another model is held back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli.main import main
from tests.classifiers_made import make_base, make_rows

RECIPE = """
base_model: ./base
data:
  datasets: [{path: train.jsonl, type: classification}]
  validation: [{path: validation.jsonl, type: classification}]
  test: [{path: test.jsonl, type: classification}]
  sequence_len: 64
  checks: {duplicates: keep, leakage: keep, near_duplicates: keep}
train: {objective: classification, adapter: lora, lora_r: 8, num_epochs: 6, micro_batch_size: 16, learning_rate: 4e-3}
export:
  onnx-fp32: {}
  onnx-int8: {}
gate:
  - task.accuracy >= 0.6
  - onnx-int8.furthest_probability <= 0.2
  - onnx-int8.task.accuracy drop <= 0.1
"""


@pytest.mark.slow
def test_from_rows_to_verified_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "base", "bert")
    for seed, (name, count) in enumerate((("train", 300), ("validation", 60), ("test", 100))):
        make_rows(tmp_path / f"{name}.jsonl", count, seed)
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert main(["run", "r.yaml"]) == 0
    for name, furthest in (("onnx-fp32", 1e-4), ("onnx-int8", 0.2)):
        fidelity = json.loads((tmp_path / f"build/r/verify.{name}/fidelity.json").read_text())
        assert fidelity["logits"]["all"]["furthest_probability"] < furthest
        assert fidelity["logits"]["all"]["positions"] == fidelity["right"]["n"] == 100
        assert fidelity["tokens"]["share"] == fidelity["awkward"]["share"] == 1.0
    passed = {
        check["gate"]
        for check in json.loads((tmp_path / "build/r/verify.onnx-int8/verdict.json").read_text())["checks"]
    }
    assert {"labels equal", "the same model", "onnx-int8.task.accuracy drop <= 0.1"} <= passed
    assert main(["run", "r.yaml"]) == 0
    assert main(["eval", "build/r/export.onnx-int8", "--suite", "test.jsonl", "--kind", "classification"]) == 0
    swapped = shutil.copytree((tmp_path / "build/r/export.onnx-int8").resolve(), tmp_path / "swapped")
    (swapped / "artifact.json").unlink()
    head = json.loads((swapped / "labels.json").read_text())
    (swapped / "labels.json").write_text(json.dumps({**head, "labels": head["labels"][::-1]}))
    where = ["--adapter", "build/r/train", "--base", "base", "--data", "build/r/data", "--out", "judged"]
    assert main(["verify", "swapped", *where]) == 4
    checks = json.loads((tmp_path / "judged" / "verdict.json").read_text())["checks"]
    assert next(check["gate"] for check in checks if not check["passed"]) == "labels equal"
