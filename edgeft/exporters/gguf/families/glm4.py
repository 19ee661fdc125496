"""GLM-4 (0414) as llama.cpp's `glm4`: norms on both sides, gate and up in one matrix, half of each head rotates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "glm4"
PARTS = {
    **decoder.ATTENTION,
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "post_mlp_layernorm": "post_ffw_norm",
}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config,
        head_dim=128,
        num_key_value_heads=2,
        rms_norm_eps=1.5625e-7,
        attention_bias=True,
        partial_rotary_factor=0.5,
    )


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    rope.check_rope(config, ("default",), partial=True)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    share = float(rope.rope_of(config)["partial_rotary_factor"])
    qwen2.put_like_qwen(ARCH, config, put)
    put(f"{ARCH}.rope.dimension_count", int(decoder.head_dim(config) * share), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    needs_bias = decoder.QKV if config["attention_bias"] else frozenset()
    return decoder.named(config, weights, decoder.Names(PARTS, decoder.TOP, needs_bias=needs_bias))
