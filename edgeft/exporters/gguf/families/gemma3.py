"""Gemma 3 (text) as llama.cpp's `gemma3`: Gemma 2's norms, norms of q and k, five layers of six with a window and a
rotation of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, gemma2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "gemma3"
NAMES = decoder.Names({**gemma2.PARTS, **decoder.QK_NORMS}, decoder.TOP, biased=frozenset())
_LARGE = 62  # layers of the 27B
_PERIOD = 6


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config,
        max_position_embeddings=131072,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        rms_norm_eps=1e-6,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        sliding_window_pattern=_PERIOD,
        tie_word_embeddings=True,
    )


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    gemma2.check_like_gemma(ARCH, config, large=_LARGE)
    rope.check_kind(_rotations(config)["full_attention"], ("default", "linear"))
    rope.check_kind(_rotations(config)["sliding_attention"], ("default",))
    decoder.refuse(config.get("attn_logit_softcapping"), "llama.cpp's gemma3 does not cap the attention's scores")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    rotations = _rotations(config)
    decoder.put_sizes(ARCH, config, put)
    rope.put_rope(ARCH, rotations["full_attention"], put)
    put(f"{ARCH}.rope.freq_base_swa", float(rotations["sliding_attention"]["rope_theta"]), "float32")
    decoder.put_rms(ARCH, config, put)
    decoder.put_head_dim(ARCH, config, put)
    if config.get("final_logit_softcapping"):
        put(f"{ARCH}.final_logit_softcapping", float(config["final_logit_softcapping"]), "float32")
    sliding = decoder.sliding_layers(config, int(config["sliding_window_pattern"]))
    usual = decoder.sliding_layers({"num_hidden_layers": config["num_hidden_layers"]}, _PERIOD)
    if any(sliding):
        decoder.put_window(ARCH, config["sliding_window"], None if sliding == usual else sliding, put)


def _rotations(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return rope.rotations(config, 1_000_000.0, config.get("rope_local_base_freq") or 10_000.0)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES, gemma2.norms_plus_one)
