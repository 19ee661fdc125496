"""Mixtral as llama.cpp's `llama` with experts: Mistral's attention, w1, w2 and w3 of each expert stacked.

Its sliding window, where a config has one, is not in llama.cpp's graph: within the window both are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, experts, llama, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = llama.ARCH
NAMES = decoder.Names(
    {**decoder.ATTENTION, **decoder.NORMS, **experts.PARTS}, decoder.TOP, biased=frozenset(decoder.ATTENTION.values())
)
_CALLED = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_EXPERT = re.compile(r"\.experts\.(\d+)\.(w[123])\.weight$")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config, num_key_value_heads=8, rms_norm_eps=1e-5, num_local_experts=8, num_experts_per_tok=2
    )


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    llama.check(config)
    experts.check_counts(config, "num_local_experts")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    llama.put_like_llama(ARCH, config, put)
    experts.put_counts(ARCH, config, "num_local_experts", put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    called = {_called(name): tensor for name, tensor in weights.items()}
    count, width = int(config["num_local_experts"]), int(config["intermediate_size"])
    stacked = experts.gathered(called, count, width, ("gate_proj", "down_proj", "up_proj"))
    return {**rope.factors(config), **decoder.named(config, stacked, NAMES, llama.paired(config))}


def _called(name: str) -> str:
    """As the other mixtures call it."""
    name = name.replace(".block_sparse_moe.", ".mlp.")
    return _EXPERT.sub(lambda match: f".experts.{match[1]}.{_CALLED[match[2]]}.weight", name)
