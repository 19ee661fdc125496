"""ERNIE 4.5 (dense) as llama.cpp's `ernie4_5`: a Llama that rotates neighbours already, with a head size of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "ernie4_5"
NAMES = decoder.Names(decoder.PARTS, decoder.TOP, biased=frozenset())


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, head_dim=128, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.refuse(config.get("use_bias"), "llama.cpp's ernie4_5 has no biases of the MLP")
    rope.check_rope(config, rope.SCALED)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    qwen2.put_like_qwen(ARCH, _settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES)
