"""Seed-OSS as llama.cpp's `seed_oss`: biases of q, k and v, a head size of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "seed_oss"
PARTS = {**decoder.PARTS, "post_attention_layernorm": "post_attention_norm"}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, head_dim=128, num_key_value_heads=8, rms_norm_eps=1e-6, attention_bias=True)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    qwen2.check_like_qwen(ARCH, config)
    decoder.refuse(
        config.get("attention_out_bias") or config.get("mlp_bias"),
        "llama.cpp's seed_oss has no biases of the attention's output and of the MLP",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    qwen2.put_like_qwen(ARCH, _settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    needs_bias = decoder.QKV if config["attention_bias"] else frozenset()
    return decoder.named(config, weights, decoder.Names(PARTS, decoder.TOP, needs_bias=needs_bias))
