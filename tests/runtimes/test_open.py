"""Every kind of reference opens; everything else is refused with what was found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact
from edgeft.errors import InputError, ModelError
from edgeft.runtimes import open_hf, open_runtime

ASK = [{"role": "user", "content": "Hi"}]


def finished(folder: Path, kind: str) -> Path:
    """An artifact made of the files that lie in `folder`."""
    outcome = artifact.Outcome(kind)
    artifact.finish(folder, outcome, stage="test", fingerprint="0" * 16, params={}, inputs={}, environment={})
    return folder


def name_and_answer(reference: Path | str, **settings: Any) -> tuple[str, tuple[int, ...]]:
    with open_runtime(reference, threads=1, **settings) as runtime:
        prompt = runtime.encode(runtime.render(ASK, add_generation_prompt=True))
        return runtime.name, runtime.generate([prompt], max_tokens=4)[0].ids


def test_a_built_in_base() -> None:
    with open_runtime("builtin:sprout") as runtime:
        assert runtime.name == "hf"
        assert runtime.vocab_size == 2048


def test_folders_files_and_links(
    tiny_llama: Path, tiny_gguf: Path, tiny_onnx: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    references = {"hf": tiny_llama, "gguf f32": tiny_gguf, "onnx fp32": tiny_onnx, "hf+adapter": tiny_adapter}
    answers = {}
    for name, reference in references.items():
        link = tmp_path / name
        link.symlink_to(reference)
        for each in (reference, str(reference), link):
            found, answers[name] = name_and_answer(each)
            assert found == name
    assert answers["hf"] == answers["onnx fp32"] == answers["gguf f32"]
    assert answers["hf+adapter"] != answers["hf"]


def test_artifacts(tiny_llama: Path, tiny_gguf: Path, tiny_onnx: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "gguf"
    gguf.mkdir()
    shutil.copy(tiny_gguf, gguf)
    folders = {
        "model": (tiny_llama, "hf"),
        "onnx": (tiny_onnx, "onnx fp32"),
        "adapter": (tiny_adapter, "hf+adapter"),
    }
    for kind, (source, name) in folders.items():
        assert name_and_answer(finished(shutil.copytree(source, tmp_path / kind), kind))[0] == name
    assert name_and_answer(finished(gguf, "gguf"))[0] == "gguf f32"


def test_the_base_of_an_adapter(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_llama, tmp_path / "moved")
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "/nowhere/base"}))
    with pytest.raises(ModelError, match="the base model of this adapter, '/nowhere/base', cannot be opened"):
        open_runtime(adapter)
    expected = name_and_answer(tiny_adapter)
    assert name_and_answer(adapter, base=moved) == expected
    (adapter / "training.json").write_text(json.dumps({"base": {"ref": str(moved)}}))
    assert name_and_answer(adapter) == expected
    with open_hf(moved, adapter, threads=1) as runtime:
        assert runtime.name == "hf+adapter"


def test_a_four_bit_adapter_opens_as_it_was_trained(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """Against bitsandbytes' own 4-bit layers with peft's own adapter on top."""
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        tiny_llama, quantization_config=settings, dtype=torch.float32, device_map={"": "cpu"}
    )
    tuned = PeftModel.from_pretrained(model, str(tiny_adapter)).train()  # in eval mode bitsandbytes may use bfloat16
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    table = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32", "weights": []}
    training = {"base": {"ref": str(tiny_llama)}, "quantization": table, "compute_dtype": "float32"}
    (adapter / "training.json").write_text(json.dumps(training))
    with open_runtime(adapter) as quantized, open_runtime(tiny_adapter) as plain:
        ids = quantized.encode(quantized.render(ASK))
        with torch.no_grad():
            expected = tuned(torch.tensor([ids])).logits[0].numpy()
        assert np.abs(quantized.logits(ids) - expected).max() < 1e-3
        assert np.abs(plain.logits(ids) - expected).max() > 0.05
        assert list(quantized.logits_batch([ids, ids]))[1].shape == expected.shape


def test_the_template_an_adapter_was_trained_with(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
    (adapter / "training.json").write_text(json.dumps({"base": {"ref": str(tiny_llama)}, "chat_template": template}))
    with open_runtime(adapter) as runtime:
        assert runtime.render(ASK) == "[user] Hi<|im_end|>"


def test_a_shorter_context(tiny_llama: Path, tiny_gguf: Path, tiny_onnx: Path) -> None:
    for reference in (tiny_llama, tiny_gguf, tiny_onnx):
        with open_runtime(reference, context_length=20) as runtime:
            assert runtime.context_length == 20
            with pytest.raises(ModelError, match="21 tokens do not fit into the context of 20"):
                runtime.logits([1] * 21)
        with open_runtime(reference, context_length=5000) as runtime:
            assert runtime.context_length == 512


def a_dataset(folder: Path) -> Path:
    (folder / "train.jsonl").write_text("{}\n")
    return finished(folder, "dataset")


def some_files(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in names:
            (folder / name).write_text("{}")
        return folder

    return make


def one_file(name: str, content: str = "hello world") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def a_dead_link(folder: Path) -> Path:
    (folder / "export.gguf-q8_0").symlink_to(folder / "gone")
    return folder / "export.gguf-q8_0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_dataset, "this is a dataset artifact, which cannot answer"),
        (some_files(), "this folder is not a model: it is empty"),
        (some_files("notes.txt", "a.csv"), "this folder is not a model: it holds a.csv, notes.txt"),
        (some_files("a.gguf", "b.gguf"), r"one .gguf file is expected, found 2 \(a.gguf, b.gguf\)"),
        (some_files("model.onnx"), "an ONNX graph but no genai_config.json"),
        (some_files("config.json"), "has no .*safetensors weights"),
        (some_files("config.json", "pytorch_model.bin"), "the checkpoint is a pickle"),
        (some_files("adapter_config.json"), "does not say which base model it belongs to"),
        (one_file("model.gguf"), "this is not a GGUF file"),
        (one_file("model.gguf", "version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
        (one_file("model.safetensors"), "this is one file of a model"),
        (one_file("notes.txt"), "this file is not a model"),
        (a_dead_link, "the link leads nowhere"),
        (lambda folder: folder / "missing.gguf", "there is no file or folder with this name"),
    ],
)
def test_what_is_refused(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_runtime(make(tmp_path))
    assert caught.value.exit_code == 2
    assert caught.value.do or caught.value.where


def test_a_name_that_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no file or folder with this name"):
        open_runtime("build/quickstart/train")
    with pytest.raises(InputError, match="there is no built-in base model 'spruot'"):
        open_runtime("builtin:spruot")
