"""OLMo 2 as llama.cpp's `olmo2`: norms after attention and MLP instead of before, norms over all of q and k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "olmo2"
NAMES = decoder.Names(
    {
        **decoder.ATTENTION,
        **decoder.GATED,
        **decoder.QK_NORMS,
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    decoder.TOP,
)


def check(config: Mapping[str, Any]) -> None:
    check_layers(config)
    rope.check_rope(config, rope.SCALED)


def check_layers(config: Mapping[str, Any]) -> None:
    """All but the rotation."""
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.check_heads(config, ARCH)
    decoder.refuse(config.get("attention_bias"), "llama.cpp's olmo2 has no bias of the attention's output")
    decoder.refuse(config.get("tie_word_embeddings"), "llama.cpp's olmo2 needs an output layer of its own")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    qwen2.put_like_qwen(ARCH, config, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(config, weights, NAMES)
