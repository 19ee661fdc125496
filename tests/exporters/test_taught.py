"""Every exported form carries the chat template and stop tokens that the adapter was trained with, not the base's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeft.exporters import EXPORTS, ExportSource, Taught, hf
from edgeft.models.identity import base_digest
from edgeft.runtimes import open_runtime

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|endoftext|>{% endfor %}"
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def source(tiny_llama: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    adapter = tmp_path_factory.mktemp("taught") / "adapter"
    shutil.copytree(tiny_adapter, adapter)
    ends = [317, 319]  # <|endoftext|> and <|im_end|> of the tiny tokenizer
    training = {
        "base": {"ref": "builtin:tiny", "digest": base_digest(tiny_llama)},
        "quantization": None,
        "stop_ids": ends,
        "chat_template": TEMPLATE,
    }
    (adapter / "training.json").write_text(json.dumps(training))
    return ExportSource(tiny_llama, adapter, name="tiny", base_ref="builtin:tiny")


def test_what_was_taught_is_read_from_the_adapter(source: ExportSource, tiny_adapter: Path) -> None:
    assert source.taught() == Taught(TEMPLATE, (317, 319))
    assert ExportSource(source.base, tiny_adapter).taught() == ExportSource(source.base).taught() == Taught()


@pytest.mark.parametrize("form", ["checkpoint", "gguf-f16", "onnx-fp32"])
def test_it_renders_and_stops_as_trained(form: str, source: ExportSource, tmp_path: Path) -> None:
    if form == "checkpoint":
        hf.export(source, tmp_path, {})
    else:
        format_, _, type_name = form.partition("-")
        EXPORTS[format_].load()(source, type_name, tmp_path, {}, lambda progress: None)
    with open_runtime(tmp_path) as runtime:
        assert runtime.render(MESSAGES) == "<|im_start|>user: hello<|endoftext|>"
        assert set(runtime.stop_ids) == {317, 319}
