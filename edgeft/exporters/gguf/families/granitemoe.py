"""Granite 3 with experts as llama.cpp's `granitemoe`: Granite's multipliers, gate and up of all experts in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, experts, granite, llama, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "granitemoe"
_FUSED = "block_sparse_moe.input_linear.weight"
_DOWN = "block_sparse_moe.output_linear.weight"
NAMES = decoder.Names(
    {
        **decoder.ATTENTION,
        **decoder.NORMS,
        "block_sparse_moe.router.layer": "ffn_gate_inp",
        **{key: value for key, value in experts.PARTS.items() if key != "mlp.gate"},
    },
    decoder.TOP,
    biased=frozenset(decoder.ATTENTION.values()),
)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, num_local_experts=8, num_experts_per_tok=2)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    granite.check(config)
    experts.check_counts(config, "num_local_experts")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    granite.put_like_granite(ARCH, config, put)
    experts.put_counts(ARCH, config, "num_local_experts", put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    called = {
        name.replace(_FUSED, "mlp.experts.gate_up_proj").replace(_DOWN, "mlp.experts.down_proj"): tensor
        for name, tensor in weights.items()
    }
    stacked = experts.gathered(called, int(config["num_local_experts"]), int(config["intermediate_size"]))
    return {**rope.factors(config), **decoder.named(config, stacked, NAMES, llama.paired(config))}
