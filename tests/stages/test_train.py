"""The `train` stage around the training itself, which is faked here (tests/training has the real one)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages import train as stage
from edgeft.training import run


def test_training_json_tells_the_datasets_and_their_system_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"objective": "sft", "compute_dtype": "float32", "quantization": None, "data": {"rows": 1}, "steps": 3}

    def train(job: Any) -> run.Result:
        files.write_json(job.folder / "training.json", told)
        files.write_jsonl(job.folder / run.CURVE, [])
        return run.Result({"steps": 3}, {})

    monkeypatch.setattr(run, "train", train)
    for name in ("data", "work", "scratch"):
        (tmp_path / name).mkdir()
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    files.write_jsonl(tmp_path / "data" / "train.jsonl", [{"id": "rows.jsonl:1", "messages": turns}])
    data = Artifact(tmp_path / "data", "dataset", "data", "f", "d")
    outcome = stage.run(
        stage.Params(base_model="some/base"),
        Inputs({"data": data}, {"base": tmp_path / "base"}),
        Work(tmp_path / "work", tmp_path / "scratch"),
    )
    assert outcome.kind == "adapter"
    assert json.loads((tmp_path / "work" / "training.json").read_text()) == {
        **told,
        "datasets": ["rows.jsonl"],
        "system": "Be brief.",
    }
    assert 'datasets: ["rows.jsonl"]' in (tmp_path / "work" / "README.md").read_text()
