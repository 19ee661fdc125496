"""Gemma 2 as llama.cpp's `gemma2`: norms stored as the difference from one, soft caps, every other layer a window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import PlusOne
from edgeft.weights import Deferred, Weights

ARCH = "gemma2"
PARTS = {
    **decoder.ATTENTION,
    **decoder.GATED,
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NAMES = decoder.Names(PARTS, decoder.TOP, biased=frozenset(), optional=frozenset({"output"}))
_LARGE = 46  # layers of the 27B, which llama.cpp knows by them


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config,
        head_dim=256,
        num_key_value_heads=4,
        rms_norm_eps=1e-6,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        tie_word_embeddings=True,
        **{} if "attn_logit_softcapping" in config else {"attn_logit_softcapping": 50.0},
        **{} if "final_logit_softcapping" in config else {"final_logit_softcapping": 30.0},
    )


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    check_like_gemma(ARCH, config, large=_LARGE)
    rope.check_rope(config, ("default",))
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        decoder.refuse(not config[key], f"llama.cpp's gemma2 always caps, this model's {key} is {config[key]!r}")
    decoder.refuse(not config["tie_word_embeddings"], "llama.cpp's gemma2 has no output layer of its own")


def check_like_gemma(arch: str, config: Mapping[str, Any], *, large: int) -> None:
    """What llama.cpp's graphs of Gemma 2 and 3 need alike. `large`: the number of layers by which they know the 27B,
    whose scores are scaled by another size."""
    decoder.check_sizes(config, "rms_norm_eps", "head_dim")
    decoder.check_activation(config, arch, "gelu_pytorch_tanh", key="hidden_activation")
    decoder.refuse(config.get("attention_bias"), f"llama.cpp's {arch} has no biases")
    decoder.refuse(config.get("use_bidirectional_attention"), f"llama.cpp's {arch} attends backwards only")
    decoder.sliding_layers(config)
    whole = int(config["hidden_size"]) // int(config["num_attention_heads"])
    scale = whole if int(config["num_hidden_layers"]) == large else int(config["head_dim"])
    decoder.refuse(
        config["query_pre_attn_scalar"] != scale,
        f"llama.cpp's {arch} scales the scores of such a model by {scale}, its query_pre_attn_scalar is "
        f"{config['query_pre_attn_scalar']}",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    decoder.put_sizes(ARCH, config, put)
    if (theta := rope.rope_of(config)["rope_theta"]) != 10000.0:
        put(f"{ARCH}.rope.freq_base", float(theta), "float32")
    decoder.put_rms(ARCH, config, put)
    decoder.put_head_dim(ARCH, config, put)
    put(f"{ARCH}.attn_logit_softcapping", float(config["attn_logit_softcapping"]), "float32")
    put(f"{ARCH}.final_logit_softcapping", float(config["final_logit_softcapping"]), "float32")
    sliding = decoder.sliding_layers(config, 2)
    usual = sliding == decoder.sliding_layers({"num_hidden_layers": config["num_hidden_layers"]}, 2)
    decoder.put_window(ARCH, config["sliding_window"], None if usual else sliding, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES, norms_plus_one)


def norms_plus_one(part: str, tensor: Deferred) -> Deferred:
    """Gemma's norms multiply by 1 + weight, llama.cpp's by the weight."""
    return PlusOne(tensor) if part.endswith("_norm") else tensor
