"""EXAONE 4 as llama.cpp's `exaone4`: OLMo 2's norms, norms of q and k over each head; in the 32B three layers of four
have a window and only those rotate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, olmo2, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "exaone4"
_LARGE = 64  # layers of the 32B, by which llama.cpp knows that there is a window


def check(config: Mapping[str, Any]) -> None:
    config = decoder.settings(config, rms_norm_eps=1e-5)
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.check_heads(config, ARCH)
    rope.check_rope(config, rope.WITH_FACTORS)
    decoder.sliding_layers(config)
    windows = config.get("sliding_window") is not None
    decoder.refuse(
        windows != (int(config["num_hidden_layers"]) == _LARGE),
        f"llama.cpp's exaone4 has a sliding window in models of {_LARGE} layers and no others",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = decoder.settings(config, rms_norm_eps=1e-5)
    qwen2.put_like_qwen(ARCH, config, put)
    put(f"{ARCH}.vocab_size", int(config["vocab_size"]), "uint32")
    if config.get("sliding_window") is not None:
        decoder.put_window(ARCH, config["sliding_window"], decoder.sliding_layers(config, 4), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return {**rope.factors(config), **decoder.named(config, weights, olmo2.NAMES)}
