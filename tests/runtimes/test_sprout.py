"""The built-in base in all three runtimes, on its own kind of text: a model with meaning, where a tie is no excuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.exporters import EXPORTS, ExportSource
from edgeft.models.base import resolve
from edgeft.runtimes import open_runtime

ROWS = Path(__file__).parents[2] / "edgeft" / "evals" / "general" / "reading.jsonl"


@pytest.fixture(scope="module")
def trained() -> Any:
    with open_runtime("builtin:sprout", threads=1) as runtime:
        yield runtime


# Measured: gguf-f16 0.9988, onnx-fp32 1.0, onnx-int4 0.846 of all positions.
@pytest.mark.parametrize(("name", "agreement"), [("gguf-f16", 0.995), ("onnx-fp32", 0.999), ("onnx-int4", 0.8)])
def test_an_exported_file_answers_as_the_base(name: str, agreement: float, trained: Any, tmp_path: Path) -> None:
    kind, _, type_name = name.partition("-")
    export = EXPORTS[kind].load()
    export(ExportSource(resolve("builtin:sprout"), name="sprout"), type_name, tmp_path, {"threads": 1})
    rows = [json.loads(line)["messages"] for line in ROWS.read_text().splitlines()[:20]]
    with open_runtime(tmp_path, threads=1) as shipped:
        texts = [trained.render(messages) for messages in rows]
        assert [shipped.render(messages) for messages in rows] == texts
        encoded = [trained.encode(text) for text in texts]
        assert [shipped.encode(text) for text in texts] == encoded
        pairs = zip(trained.logits_batch(encoded), shipped.logits_batch(encoded), strict=True)
        same = np.concatenate([one.argmax(1) == other.argmax(1) for one, other in pairs])
        assert same.mean() >= agreement
        prompts = [trained.encode(trained.render(row[:-1], add_generation_prompt=True)) for row in rows]
        answers = [runtime.generate(prompts, max_tokens=24) for runtime in (trained, shipped)]
        equal = sum(one.text == other.text for one, other in zip(*answers, strict=True))
        assert equal >= (len(rows) * 0.5 if type_name == "int4" else len(rows) - 1)
        assert all(answer.stopped for answer in answers[0])
