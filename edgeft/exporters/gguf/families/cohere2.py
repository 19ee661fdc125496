"""Command R7B and Command A as llama.cpp's `cohere2`: attention and MLP side by side below one layer norm, scaled
logits; layers with a window rotate (neighbours already, so q and k stay as they are), the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "cohere2"
NAMES = decoder.Names(
    {**decoder.ATTENTION, **decoder.GATED, "input_layernorm": "attn_norm"}, decoder.TOP, biased=frozenset()
)
_PERIOD = 4


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    filled = decoder.settings(
        config, logit_scale=0.0625, layer_norm_eps=1e-5, tie_word_embeddings=True, sliding_window=4096
    )
    return decoder.with_head_dim(filled)


def check(config: Mapping[str, Any]) -> None:
    explicit = "sliding_window" in config and config["sliding_window"] is None
    decoder.refuse(explicit, "llama.cpp's cohere2 has a sliding window, this model's sliding_window is null")
    config = _settings(config)
    decoder.check_sizes(config, "layer_norm_eps", "logit_scale", "sliding_window")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.check_heads(config, ARCH)
    decoder.refuse(config.get("attention_bias"), "llama.cpp's cohere2 has no biases")
    decoder.refuse(not config["tie_word_embeddings"], "llama.cpp's cohere2 has no output layer of its own")
    decoder.refuse(not config["logit_scale"], "llama.cpp's cohere2 takes a logit_scale of 0 for none")
    decoder.refuse(
        config.get("use_qk_norm") or config.get("use_parallel_block") is False,
        "llama.cpp's cohere2 has no norms of q and k, and attention and MLP side by side",
    )
    _sliding(config)
    rope.check_rope(config, ("default",))


def _sliding(config: Mapping[str, Any]) -> list[bool]:
    return decoder.sliding_layers(config, int(config.get("sliding_window_pattern") or _PERIOD))


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    decoder.put_sizes(ARCH, config, put)
    rope.put_rope(ARCH, rope.rope_of(config), put)
    put(f"{ARCH}.attention.layer_norm_epsilon", float(config["layer_norm_eps"]), "float32")
    decoder.put_head_dim(ARCH, config, put)
    put(f"{ARCH}.logit_scale", float(config["logit_scale"]), "float32")
    sliding = _sliding(config)
    usual = sliding == decoder.sliding_layers({"num_hidden_layers": config["num_hidden_layers"]}, _PERIOD)
    decoder.put_window(ARCH, config["sliding_window"], None if usual else sliding, put)
    put(f"{ARCH}.vocab_size", int(config["vocab_size"]), "uint32")
    put(f"{ARCH}.rope.dimension_count", decoder.head_dim(config), "uint32")
    put(f"{ARCH}.rope.scaling.type", "none", "string")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES)
