"""Hunyuan's dense models as llama.cpp's `hunyuan-dense`: norms of q and k after the rotation, whose base is stretched
by a constant (`alpha`) where the config calls it dynamic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "hunyuan-dense"
PARTS = {**decoder.PARTS, "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"}
NAMES = decoder.Names(PARTS, decoder.TOP, biased=frozenset())


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.with_head_dim(decoder.settings(config, rms_norm_eps=1e-5))


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps", "head_dim")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.refuse(config.get("attention_bias"), "llama.cpp's hunyuan-dense has no biases")
    rope.check_rope(config, ("default", "dynamic"))
    found = rope.rope_of(config)
    decoder.refuse(
        found["rope_type"] == "dynamic" and not found.get("alpha"),
        "edgeft cannot write rope scaling that grows with the text ('dynamic' without alpha)",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config, found = _settings(config), rope.rope_of(_settings(config))
    if found["rope_type"] == "dynamic":
        size = decoder.head_dim(config)
        base = float(found["rope_theta"]) * float(found["alpha"]) ** (size / (size - 2))
        qwen2.put_like_qwen(ARCH, {**config, "rope_parameters": {"rope_theta": base}, "rope_scaling": None}, put)
        put(f"{ARCH}.rope.scaling.type", "none", "string")
    else:
        qwen2.put_like_qwen(ARCH, config, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES)
