"""Granite 3 (dense) as llama.cpp's `granite`: a Llama with four multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, llama
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "granite"
MULTIPLIERS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, rms_norm_eps=1e-6, **dict.fromkeys(MULTIPLIERS, 1.0))


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    llama.check(config)
    decoder.check_heads(config, ARCH)
    for key in MULTIPLIERS:
        decoder.refuse(not config[key], f"config.json's {key} is 0, which llama.cpp takes for none")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    put_like_granite(ARCH, config, put)


def put_like_granite(arch: str, config: Mapping[str, Any], put: Put) -> None:
    """Llama's keys but a head size, and the multipliers."""
    config = _settings(config)
    llama.put_like_llama(arch, {**config, "head_dim": None}, put)
    for ours, theirs in MULTIPLIERS.items():
        put(f"{arch}.{theirs}", float(config[ours]), "float32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return llama.tensors(config, weights)
