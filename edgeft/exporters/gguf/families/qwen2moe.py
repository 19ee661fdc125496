"""Qwen1.5-MoE and Qwen2-MoE as llama.cpp's `qwen2moe`: Qwen2's attention, experts beside one that all tokens share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, experts, qwen2
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "qwen2moe"
SHARED = {
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
PARTS = {**decoder.ATTENTION, **decoder.NORMS, **experts.PARTS, **SHARED}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config,
        num_key_value_heads=16,
        rms_norm_eps=1e-6,
        num_experts=60,
        num_experts_per_tok=4,
        moe_intermediate_size=1408,
        shared_expert_intermediate_size=5632,
        qkv_bias=True,
    )


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    qwen2.check_like_qwen(ARCH, config)
    decoder.check_heads(config, ARCH)
    experts.check_counts(config, "num_experts", "moe_intermediate_size", "shared_expert_intermediate_size")
    decoder.refuse(
        config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1,
        "every layer of llama.cpp's qwen2moe has experts, this model has layers without",
    )
    decoder.refuse(
        config.get("norm_topk_prob"),
        "llama.cpp's qwen2moe takes the weights of the chosen experts as they are, this model's norm_topk_prob is true",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    qwen2.put_like_qwen(ARCH, config, put)
    experts.put_counts(ARCH, config, "num_experts", put)
    put(f"{ARCH}.expert_feed_forward_length", int(config["moe_intermediate_size"]), "uint32")
    put(f"{ARCH}.expert_shared_feed_forward_length", int(config["shared_expert_intermediate_size"]), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    needs_bias = decoder.QKV if config["qkv_bias"] else frozenset()
    stacked = experts.gathered(weights, int(config["num_experts"]), int(config["moe_intermediate_size"]))
    return decoder.named(config, stacked, decoder.Names(PARTS, decoder.TOP, needs_bias=needs_bias))
