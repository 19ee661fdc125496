"""SmolLM3 as llama.cpp's `smollm3`: a Llama whose every fourth layer does not rotate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, llama, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "smollm3"
NAMES = decoder.Names(decoder.PARTS, decoder.TOP)
_PERIOD = 4


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, num_key_value_heads=4, rms_norm_eps=1e-6, tie_word_embeddings=True)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    rope.check_rope(config, rope.SCALED)
    period = config.get("no_rope_layer_interval", _PERIOD)
    layers = range(int(config["num_hidden_layers"]))
    found = config.get("no_rope_layers") or [int((number + 1) % period != 0) for number in layers]
    decoder.refuse(
        found != [int((number + 1) % _PERIOD != 0) for number in layers],
        "in llama.cpp's smollm3 every fourth layer does not rotate, this model's no_rope_layers are others",
    )
    decoder.refuse(any(decoder.sliding_layers(config)), "llama.cpp's smollm3 has no sliding window")
    decoder.refuse(
        config.get("attention_bias") or config.get("mlp_bias"),
        "llama.cpp's smollm3 has no biases of the attention's output and of the MLP",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    llama.put_like_llama(ARCH, _settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    return decoder.named(config, weights, NAMES, llama.paired(config))
