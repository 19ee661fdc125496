"""Qwen2 and Qwen2.5 as llama.cpp's `qwen2`: biases of q, k and v."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "qwen2"
NAMES = decoder.Names(decoder.PARTS, decoder.TOP, needs_bias=decoder.QKV)


def check(config: Mapping[str, Any]) -> None:
    check_like_qwen(ARCH, config)
    decoder.check_heads(config, ARCH)


def check_like_qwen(arch: str, config: Mapping[str, Any]) -> None:
    """What llama.cpp's graphs of the Qwen families need alike."""
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, arch, "silu", "swish")
    decoder.refuse(
        config.get("use_sliding_window") and config.get("sliding_window"),
        f"llama.cpp's {arch} has no sliding window, this model's use_sliding_window is true",
    )
    rope.check_rope(config, rope.SCALED)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    put_like_qwen(ARCH, config, put)


def put_like_qwen(arch: str, config: Mapping[str, Any], put: Put) -> None:
    """The keys that most decoders with a rotation of halves have."""
    decoder.put_sizes(arch, config, put)
    rope.put_rope(arch, rope.rope_of(config), put)
    decoder.put_rms(arch, config, put)
    decoder.put_head_dim(arch, config, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(config, weights, NAMES)
