"""Checkpoints of text and images (`…ForConditionalGeneration`) whose `text_config` is a family of ours: the text part
is what is written as GGUF, everything else is left out and counted. Called by `families`.

Names of the text part, as Transformers has written them over time: `model.language_model.*` with `lm_head.*` beside it,
`language_model.model.*` with `language_model.lm_head.*`, and `model.text_model.*` (Idefics, SmolVLM).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

OUTER = "nested_in"  # the key of a flat config that names the architecture it came out of
# model_type of a text_config -> the same model alone. Types of their own (other positions for images, cross attention)
# are not in here: their text part is no model that llama.cpp has by itself.
ALONE = {
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "granite": "GraniteForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
# What Transformers' configuration class fills in and published configs leave out.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"gemma3_text": {"vocab_size": 262208}}
_PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.text_model.", "model."),
)
_HEAD = "lm_head.weight"


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text part's config as if it stood alone; any other config as it is. What the outer config says beside
    (end tokens, tied embeddings, model_type, by which the tokenizer is opened) holds where the inner is silent."""
    text = config.get("text_config")
    kind = text.get("model_type") if isinstance(text, Mapping) else None
    names = config.get("architectures")
    if not isinstance(text, Mapping) or kind not in ALONE or not isinstance(names, list) or not names:
        return dict(config)
    outer = {key: value for key, value in config.items() if not key.endswith("_config")}
    inner = {key: value for key, value in text.items() if value is not None or key not in outer}
    own = {"architectures": [ALONE[str(kind)]], "model_type": config.get("model_type"), OUTER: names[0]}
    return {**_DEFAULTS.get(str(kind), {}), **outer, **inner, **own}


@dataclass(frozen=True)
class Nested:
    """A family's module for the text part of a larger checkpoint: the same functions over other tensor names."""

    inner: Any

    @property
    def ARCH(self) -> str:  # as a module's constant
        return str(self.inner.ARCH)

    def check(self, config: Mapping[str, Any]) -> None:
        self.inner.check(config)

    def metadata(self, config: Mapping[str, Any], put: Put) -> None:
        self.inner.metadata(config, put)

    def tensors(self, config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
        """A checkpoint without a head of its own is tied, whatever the outer config leaves unsaid."""
        found = {text: tensor for name, tensor in weights.items() if (text := text_name(name)) is not None}
        tied = bool(config.get("tie_word_embeddings")) or _HEAD not in found
        return dict(self.inner.tensors({**config, "tie_word_embeddings": tied}, found))


def text_name(name: str) -> str | None:
    """What a tensor is called in the text model alone; None for one of another part."""
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name if name == _HEAD else None


def left_out(config: Mapping[str, Any], weights: Weights) -> int:
    """How many tensors of a checkpoint are not of its text part."""
    return sum(text_name(name) is None for name in weights) if OUTER in config else 0
