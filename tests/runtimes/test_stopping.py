"""An answer ends at a stop token, which is in its ids and not in its text. The model is made to say it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import ExportSource
from edgeft.runtimes import open_runtime
from tests.runtimes.conftest import KINDS
from tests.runtimes.gguf_made import make_gguf


@pytest.fixture(scope="module")
def chatty(opened: dict[str, Any], prompts: list[list[int]], tiny_llama: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """The tiny model with the fourth token of its own greedy answer declared the end, in every format."""
    from edgeft.exporters.onnx.decoder import export

    answers = [answer.ids for answer in opened["hf"].generate(prompts, max_tokens=8)]
    ids, answer = next(pair for pair in zip(prompts, answers, strict=True) if len(pair[1]) == 8)
    place = next(i for i in range(3, 8) if answer[i] not in answer[:i])
    folder = tmp_path_factory.mktemp("chatty")
    base = shutil.copytree(tiny_llama, folder / "base")
    path = base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [answer[place], 319]}))
    gguf = make_gguf(folder / "chatty.gguf", base, eos_token_id=answer[place])
    export(ExportSource(base, name="chatty"), "fp32", folder / "onnx", {})
    references = dict(zip(KINDS, (base, gguf, folder / "onnx"), strict=True))
    return {"references": references, "prompt": ids, "answer": answer[: place + 1]}


@pytest.mark.parametrize("kind", KINDS)
def test_stops_at_a_stop_token(kind: str, chatty: dict[str, Any], prompts: list[list[int]]) -> None:
    prompt, expected = chatty["prompt"], chatty["answer"]
    with open_runtime(chatty["references"][kind], threads=1) as runtime:
        assert {expected[-1], 319} <= set(runtime.stop_ids)
        (answer, *_) = runtime.generate([prompt, prompts[0], prompts[2]], max_tokens=12)
        assert answer.ids == tuple(expected)
        assert answer.stopped
        assert answer.text == runtime.decode(expected[:-1])
        pieces: list[str] = []
        runtime.generate([prompt], max_tokens=12, on_token=pieces.append)
        assert "".join(pieces) == answer.text


def test_the_templates_end_of_turn_is_a_stop_token(tiny_llama: Path, tmp_path: Path) -> None:
    """A base whose configs name the end of a document only, tuned with ChatML, ends its turns with <|im_end|>."""
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    for name in ("generation_config.json", "config.json"):
        settings = json.loads((base / name).read_text()) | {"eos_token_id": 317}
        (base / name).write_text(json.dumps(settings))
    settings = json.loads((base / "tokenizer_config.json").read_text()) | {"eos_token": "<|endoftext|>"}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    with open_runtime(base) as runtime:
        assert runtime.stop_ids == (317, 319)


def test_a_template_without_an_end_adds_none(tiny_llama: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    (base / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    settings = json.loads((base / "tokenizer_config.json").read_text()) | {"eos_token": "<|endoftext|>"}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    with open_runtime(base) as runtime:
        assert runtime.stop_ids == (317, 319)  # the tokenizer's end and generation_config's
