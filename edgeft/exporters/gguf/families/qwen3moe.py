"""Qwen3-MoE as llama.cpp's `qwen3moe`: Qwen3's attention, every layer a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, experts, qwen2
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "qwen3moe"
NAMES = decoder.Names(
    {**decoder.ATTENTION, **decoder.NORMS, **decoder.QK_NORMS, **experts.PARTS}, decoder.TOP, biased=frozenset()
)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, num_experts=config.get("num_local_experts"), rms_norm_eps=1e-6)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    qwen2.check_like_qwen(ARCH, config)
    experts.check_counts(config, "num_experts", "moe_intermediate_size")
    decoder.refuse(config.get("attention_bias"), "llama.cpp's qwen3moe has no bias of the attention's output")
    decoder.refuse(
        config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1,
        "every layer of llama.cpp's qwen3moe has experts, this model has layers without",
    )
    decoder.refuse(
        not config.get("norm_topk_prob"),
        "llama.cpp's qwen3moe normalises the weights of the chosen experts, this model's norm_topk_prob is false",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    qwen2.put_like_qwen(ARCH, config, put)
    experts.put_counts(ARCH, config, "num_experts", put)
    put(f"{ARCH}.expert_feed_forward_length", int(config["moe_intermediate_size"]), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    stacked = experts.gathered(weights, int(config["num_experts"]), int(config["moe_intermediate_size"]))
    return decoder.named(config, stacked, NAMES)
