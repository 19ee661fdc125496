"""Against llama.cpp's own converter: every tensor byte for byte, every metadata key, of what a Llama can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from tests.exporters.gguf.converter import convert, source_folder
from tests.models_made import make_llama

pytestmark = pytest.mark.slow

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16}
MODELS: dict[str, dict[str, Any]] = {
    "tied": SMALL,
    "untied": {**SMALL, "tied": False},
    "biases": {**SMALL, "attention_bias": True},
    "llama3 rope": {**SMALL, "rope_parameters": LLAMA3},
    "linear rope": {**SMALL, "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "one head of keys": {**SMALL, "heads": 4, "kv_heads": 1},
    "sharded": {**SMALL, "shard_size": "60KB"},
}
# Keys that only one side writes, or otherwise, and why that is right.
OURS = {
    "general.base_model.count": "the lineage, which the converter knows from a model card only",
    "general.base_model.0.name": "the lineage",
    "general.tags": "the lineage: the converter takes them from a model card",
    "edgeft.version": "edgeft's own",
    "tokenizer.ggml.add_bos_token": "said always: llama.cpp would guess it from the pre-tokenizer's name",
    "tokenizer.ggml.add_eos_token": "said always",
}
THEIRS = {
    "general.sampling.temp": "a default of generation_config.json",
    "general.basename": "guessed from the folder's name",
    "general.finetune": "guessed from the folder's name",
    "general.version": "guessed from the folder's name",
}
OTHERWISE = {"general.name": "a name made of the folder's", "general.size_label": "rounded from other counts"}


@pytest.fixture(scope="module")
def llama_cpp_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_folder(tmp_path_factory.mktemp("llama.cpp"))


def contents(path: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, Any, bytes]]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in reader.tensors}
    return fields, tensors


@pytest.mark.parametrize("type_name", ["bf16", "f16", "f32", "q8_0"])
@pytest.mark.parametrize("model", MODELS)
def test_equals_llama_cpps_converter(model: str, type_name: str, llama_cpp_source: Path, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **MODELS[model])
    convert(llama_cpp_source, base, tmp_path / "theirs.gguf", type_name=type_name, pre="qwen2")
    (tmp_path / "ours").mkdir()
    done = export(ExportSource(base, name="base", base_ref="x"), type_name, tmp_path / "ours", {"threads": 1})
    ours, our_tensors = contents(tmp_path / "ours" / done.facts["file"])
    theirs, their_tensors = contents(tmp_path / "theirs.gguf")
    assert set(our_tensors) == set(their_tensors)
    for name, tensor in their_tensors.items():
        assert our_tensors[name] == tensor, name
    assert set(ours) - set(theirs) <= set(OURS)
    assert set(theirs) - set(ours) <= set(THEIRS)
    different = {key for key in set(ours) & set(theirs) if ours[key] != theirs[key]}
    assert different <= set(OTHERWISE), {key: (ours[key], theirs[key]) for key in different}
