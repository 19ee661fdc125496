"""Gemma 1 as llama.cpp's `gemma`: norms stored as the difference from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, gemma2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "gemma"
NAMES = decoder.Names(decoder.PARTS, decoder.TOP, biased=frozenset(), optional=frozenset({"output"}))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, head_dim=256, num_key_value_heads=16, rms_norm_eps=1e-6, tie_word_embeddings=True)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps", "head_dim")
    # The first configs say "gelu" and mean its approximation, which Transformers computes for both.
    decoder.check_activation(config, ARCH, "gelu_pytorch_tanh", "gelu")
    decoder.refuse(config.get("attention_bias"), "llama.cpp's gemma has no biases")
    decoder.refuse(config.get("use_bidirectional_attention"), "llama.cpp's gemma attends backwards only")
    decoder.refuse(not config["tie_word_embeddings"], "llama.cpp's gemma has no output layer of its own")
    rope.check_rope(config, ("default",))


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    decoder.put_sizes(ARCH, config, put)
    if (theta := rope.rope_of(config)["rope_theta"]) != 10000.0:
        put(f"{ARCH}.rope.freq_base", float(theta), "float32")
    decoder.put_rms(ARCH, config, put)
    decoder.put_head_dim(ARCH, config, put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES, gemma2.norms_plus_one)
