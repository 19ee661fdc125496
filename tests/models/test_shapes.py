"""Shapes against transformers' own models (on the meta device), published counts, and llama.cpp's choice of types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import ModelError
from edgeft.models.shapes import (
    KNOWN,
    Shape,
    adapter_parameters,
    checkpoint_bytes,
    from_config,
    gguf_bytes,
    gguf_type,
    shape_of,
)

PUBLISHED = {  # parameters, tied embeddings once, as the hub's pages of these models state them
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen3-0.6B": 596_049_920,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 128,
}


def tiny(family: str, **more: Any) -> dict[str, Any]:
    return {"model_type": family, **TINY, **more}


CONFIGS = {
    "llama tied": tiny("llama", tie_word_embeddings=True),
    "llama untied": tiny("llama", tie_word_embeddings=False),
    "llama biases": tiny("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    "llama head size": tiny("llama", head_dim=32, tie_word_embeddings=True),
    "mistral": tiny("mistral", tie_word_embeddings=False),
    "smollm3": tiny("smollm3", tie_word_embeddings=True),
    "granite": tiny("granite", tie_word_embeddings=True),
    "qwen2": tiny("qwen2", tie_word_embeddings=True),
    "qwen3": tiny("qwen3", head_dim=32, tie_word_embeddings=False),
    "qwen3 by default": tiny("qwen3"),
    "gemma2": tiny("gemma2", head_dim=32),
    "gemma3": tiny("gemma3_text"),
    "olmo2": tiny("olmo2", tie_word_embeddings=False),
    "olmo3": tiny("olmo3", tie_word_embeddings=False),
    "gemma": tiny("gemma"),
    "ernie4_5": tiny("ernie4_5"),
    "exaone4": tiny("exaone4", tie_word_embeddings=False),
    "phi3": tiny("phi3", tie_word_embeddings=False),
    "phi3 tied": tiny("phi3", tie_word_embeddings=True),
}


def built(config: dict[str, Any]) -> Any:
    """The model that transformers makes of a config, without values."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = config["model_type"]
    more = {"pad_token_id": 0} if kind in ("smollm3", "phi3", "olmo2", "olmo3") else {}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config, **more))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_is_that_of_transformers(name: str) -> None:
    config = CONFIGS[name]
    wanted = {name: tuple(tensor.shape) for name, tensor in built(config).named_parameters()}
    shape = from_config(config)
    found = {
        tensor.name: (tensor.columns,) if tensor.vector else (tensor.rows, tensor.columns) for tensor in shape.tensors()
    }
    assert found == wanted


@pytest.mark.parametrize("name", KNOWN)
def test_known_bases(name: str) -> None:
    shape = from_config(KNOWN[name])
    assert shape.parameters == PUBLISHED[name]
    assert sum(tensor.numel() for tensor in built(KNOWN[name]).parameters()) == PUBLISHED[name]
    assert checkpoint_bytes(shape) == 2 * PUBLISHED[name]


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_adapter_parameters_are_those_of_peft(targets: str | list[str]) -> None:
    from peft import LoraConfig, get_peft_model

    config = CONFIGS["qwen2"]
    model = get_peft_model(built(config), LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    trained, _ = model.get_nb_trainable_parameters()
    assert adapter_parameters(from_config(config), 4, targets) == trained


def llama_cpp(shape: Shape, config: dict[str, Any], export: str, folder: Path) -> tuple[dict[str, str], int]:
    """Tensor types as llama.cpp picks them in a dry run, and the bytes that they take."""
    from edgeft.exporters.gguf.families import family_of
    from edgeft.exporters.gguf.header import Header
    from edgeft.exporters.gguf.layout import layout, source_types
    from edgeft.exporters.gguf.types import file_type
    from edgeft.weights.deferred import Deferred

    class Known(Deferred):
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            self.name, self.shape, self.dtype = name, shape, "BF16"

    metadata: list[tuple[str, Any, str]] = []
    config = {"rms_norm_eps": 1e-5, "architectures": [ARCHITECTURES[config["model_type"]]], **config}
    family = family_of(config)
    family.metadata(config, lambda *entry: metadata.append(entry))
    weights = {
        tensor.name: Known(tensor.name, (tensor.columns,) if tensor.vector else (tensor.rows, tensor.columns))
        for tensor in shape.tensors()
    }
    tensors = family.tensors(config, weights)
    kind = file_type(export.removeprefix("gguf-"))
    assert source_types(tensors)
    types = layout(kind, family.ARCH, metadata, tensors, folder).types
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return dict(types), Header(family.ARCH, metadata, shapes, types).data_bytes()


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
    "exaone4": "Exaone4ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 9}
SIZED = KNOWN | {
    "narrow": tiny("llama", tie_word_embeddings=True),  # rows of 64 and 96: no K-quants
    "narrow untied": tiny("llama", tie_word_embeddings=False, num_hidden_layers=9),
    "half narrow": tiny("llama", hidden_size=256, intermediate_size=288, tie_word_embeddings=False),
    "odd": tiny("llama", intermediate_size=80, tie_word_embeddings=True),  # rows of 80: not even Q8_0
    "many layers": tiny("llama", hidden_size=256, intermediate_size=512, num_hidden_layers=21),
    **{
        f"{family} {width}": tiny(family, **sizes, tie_word_embeddings=tied)
        for family, tied in (
            ("qwen3", False), ("gemma2", True), ("gemma3_text", True), ("olmo2", False), ("phi3", False),
            ("smollm3", True), ("granite", True), ("mistral", False),
            ("olmo3", False), ("gemma", True), ("ernie4_5", True), ("exaone4", False),
        )
        for width, sizes in (("narrow", {}), ("wide", WIDE))
    },
}  # fmt: skip


# All types are asked in test_mixes.py; here all shapes.
SOME = ("gguf-f32", "gguf-f16", "gguf-bf16", "gguf-q8_0", "gguf-q6_k", "gguf-q4_k_m", "gguf-iq4_xs")


@pytest.mark.parametrize("export", SOME)
@pytest.mark.parametrize("name", SIZED)
def test_gguf_sizes_are_llama_cpps(name: str, export: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    config = SIZED[name]
    shape = from_config(config)
    types, size = llama_cpp(shape, config, export, tmp_path)
    counts: dict[str, int] = {}
    for tensor in shape.tensors():
        kind = gguf_type(shape, tensor, export)
        counts[kind] = counts.get(kind, 0) + 1
    assert counts == {kind: list(types.values()).count(kind) for kind in set(types.values())}
    assert gguf_bytes(shape, export) == size


def test_a_folder_is_asked_before_the_table(tiny_llama: Path) -> None:
    shape = shape_of(str(tiny_llama))
    assert shape is not None
    config = json.loads((tiny_llama / "config.json").read_text())
    assert (shape.hidden, shape.vocab, shape.layers) == (
        config["hidden_size"],
        config["vocab_size"],
        config["num_hidden_layers"],
    )
    from safetensors import safe_open

    (file,) = tiny_llama.glob("*.safetensors")
    with safe_open(file, "pt") as checkpoint:
        stored = {name: list(checkpoint.get_slice(name).get_shape()) for name in checkpoint.keys()}  # noqa: SIM118
    assert sorted(stored) == sorted(tensor.name for tensor in shape.tensors())
    assert checkpoint_bytes(shape) == 2 * sum(
        rows * (columns[0] if columns else 1) for rows, *columns in stored.values()
    )


def test_the_built_in_base_counts_as_its_file_does() -> None:
    from safetensors import safe_open

    from edgeft.models.base import BUILTIN

    shape = shape_of("builtin:sprout")
    assert shape is not None
    with safe_open(BUILTIN / "sprout" / "model.safetensors", "pt") as checkpoint:
        names = set(checkpoint.keys())
    assert names == {tensor.name for tensor in shape.tensors()}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**TINY, "model_type": "mamba"}, "model type 'mamba'"),
        ({"model_type": "llama", "hidden_size": 64}, "num_attention_heads is None"),
        (tiny("llama", hidden_size="64"), "hidden_size is '64'"),
        (tiny("llama", vocab_size=-1), "vocab_size is -1"),
        (tiny("llama", num_hidden_layers=10**12), "num_hidden_layers is 1000000000000"),
        (tiny("llama", hidden_size=True), "hidden_size is True"),
    ],
)
def test_configs_that_give_no_shape(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_config(config)


def test_what_is_not_known_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert shape_of("nobody/nothing") is None
    assert shape_of("HuggingFaceTB/SmolLM2-135M-Instruct@main") == shape_of("HuggingFaceTB/SmolLM2-135M-Instruct")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert shape_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json cannot be read"):
        shape_of(str(tmp_path))
