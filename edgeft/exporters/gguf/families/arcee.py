"""Arcee (AFM) as llama.cpp's `arcee`: a Llama whose MLP has no gate and squares what relu lets through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, llama, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "arcee"
NAMES = decoder.Names(
    {key: value for key, value in decoder.PARTS.items() if value != "ffn_gate"}, decoder.TOP, biased=frozenset()
)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.with_head_dim(decoder.settings(config, rms_norm_eps=1e-5))


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "relu2")
    decoder.refuse(config.get("attention_bias") or config.get("mlp_bias"), "llama.cpp's arcee has no biases")
    rope.check_rope(config, rope.WITH_FACTORS)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    llama.put_like_llama(ARCH, _settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    return {**rope.factors(config), **decoder.named(config, weights, NAMES, llama.paired(config))}
