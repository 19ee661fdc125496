"""The model families that can be written as GGUF: architecture name of config.json -> its module.

A family module gives

    ARCH                                  llama.cpp's name of the architecture
    check(config) -> None                 raises `ModelError` for what it cannot express
    metadata(config, put) -> None         put(key, value, kind): hyper-parameters, as llama.cpp reads them
    tensors(config, weights) -> dict      GGUF tensor name -> `Deferred`, in file order

`nested` finds the text part of checkpoints of text and images.
`decoder`, `rope`, `experts` and `rearranged` are what they share. Adding one is one file, one row here, one row in the
oracle test's table and one in docs/families.md, which says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families.nested import OUTER, Nested, flat, left_out
from edgeft.registry import Row, Table
from edgeft.weights.checkpoint import read_config


def _row(module: str, what: str) -> Row:
    return Row(f"edgeft.exporters.gguf.families.{module}", what)


__all__ = ["FAMILIES", "family_of", "left_out", "model_config"]

FAMILIES: Table = {
    "ArceeForCausalLM": _row("arcee", "Arcee AFM"),
    "Cohere2ForCausalLM": _row("cohere2", "Command R7B, Command A"),
    "Ernie4_5ForCausalLM": _row("ernie4_5", "ERNIE 4.5, dense"),
    "Exaone4ForCausalLM": _row("exaone4", "EXAONE 4"),
    "GPT2LMHeadModel": _row("gpt2", "GPT-2"),
    "Gemma2ForCausalLM": _row("gemma2", "Gemma 2"),
    "Gemma3ForCausalLM": _row("gemma3", "Gemma 3, text"),
    "GemmaForCausalLM": _row("gemma", "Gemma 1"),
    "Glm4ForCausalLM": _row("glm4", "GLM-4"),
    "GraniteForCausalLM": _row("granite", "Granite 3, dense"),
    "GraniteMoeForCausalLM": _row("granitemoe", "Granite 3, mixture of experts"),
    "GraniteMoeHybridForCausalLM": _row("granitehybrid", "Granite 4, dense"),
    "HunYuanDenseV1ForCausalLM": _row("hunyuan", "Hunyuan, dense"),
    "Lfm2ForCausalLM": _row("lfm2", "LFM2, dense"),
    "LlamaForCausalLM": _row("llama", "Llama 1 to 3.x and what is built like it"),
    "MistralForCausalLM": _row("mistral", "Mistral"),
    "MixtralForCausalLM": _row("mixtral", "Mixtral"),
    "Olmo2ForCausalLM": _row("olmo2", "OLMo 2"),
    "Olmo3ForCausalLM": _row("olmo3", "OLMo 3"),
    "Phi3ForCausalLM": _row("phi3", "Phi-3, Phi-3.5, Phi-4"),
    "Qwen2ForCausalLM": _row("qwen2", "Qwen2, Qwen2.5"),
    "Qwen2MoeForCausalLM": _row("qwen2moe", "Qwen1.5-MoE, Qwen2-MoE"),
    "Qwen3ForCausalLM": _row("qwen3", "Qwen3"),
    "Qwen3MoeForCausalLM": _row("qwen3moe", "Qwen3, mixture of experts"),
    "Qwen3_5ForCausalLM": _row("qwen3_5", "Qwen3.5, text"),
    "SeedOssForCausalLM": _row("seed_oss", "Seed-OSS"),
    "SmolLM3ForCausalLM": _row("smollm3", "SmolLM3"),
    "StableLmForCausalLM": _row("stablelm", "StableLM"),
    "Starcoder2ForCausalLM": _row("starcoder2", "StarCoder2"),
}


def model_config(base: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder; of one of text and images, its text part's (see `nested`)."""
    return flat(read_config(base))


def family_of(config: Mapping[str, Any]) -> Any:
    """The module of a model's family. A `ModelError` lists the families there are."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    if name not in FAMILIES:
        what = f"the architecture {name!r}" if name else "a model whose config.json names no architecture"
        raise ModelError(f"edgeft cannot write {what} as GGUF", do=f"architectures: {', '.join(sorted(FAMILIES))}")
    family = FAMILIES[str(name)].load()
    return Nested(family) if OUTER in config else family
