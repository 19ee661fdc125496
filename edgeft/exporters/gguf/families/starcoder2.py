"""StarCoder2 as llama.cpp's `starcoder2`: layer norms, biases everywhere, an MLP without a gate. Its sliding window is
not in llama.cpp's graph: within the window both are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "starcoder2"
PARTS = {**decoder.ATTENTION, **decoder.NORMS, "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
NAMES = decoder.Names(PARTS, decoder.TOP, biased=frozenset(), needs_bias=frozenset({*PARTS.values(), "output_norm"}))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, num_key_value_heads=2, norm_epsilon=1e-5, use_bias=True, tie_word_embeddings=True)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "norm_epsilon")
    decoder.check_activation(config, ARCH, "gelu_pytorch_tanh")
    decoder.check_heads(config, ARCH)
    decoder.refuse(not config["use_bias"], "llama.cpp's starcoder2 needs biases, this model's use_bias is false")
    rope.check_rope(config, rope.SCALED)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    decoder.put_sizes(ARCH, config, put)
    rope.put_rope(ARCH, rope.rope_of(config), put)
    put(f"{ARCH}.attention.layer_norm_epsilon", float(config["norm_epsilon"]), "float32")
    decoder.put_head_dim(ARCH, config, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES)
