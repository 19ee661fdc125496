"""Phi-3, Phi-3.5 and Phi-4 as llama.cpp's `phi3`: q, k, v in one matrix, gate and up in one, factors for long texts.

llama.cpp takes the long factors when the context that it is opened with is longer than the original one, Transformers
when the text is. The sliding window of Phi-3-mini is not in llama.cpp's graph: within the window both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Given
from edgeft.weights import Deferred, Weights

ARCH = "phi3"
PARTS = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    **decoder.NORMS,
}
NAMES = decoder.Names(PARTS, decoder.TOP, biased=frozenset())


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    found = rope.rope_of(config)
    if found["rope_type"] in ("su", "yarn"):  # what the first configs called it
        found["rope_type"] = "longrope"
    found.setdefault("original_max_position_embeddings", config.get("original_max_position_embeddings") or 4096)
    return found


def _rotated(config: Mapping[str, Any]) -> int:
    share = float(_rope(config).get("partial_rotary_factor") or 1.0)
    return int(share * int(config["hidden_size"])) // int(config["num_attention_heads"])


def check(config: Mapping[str, Any]) -> None:
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.check_heads(config, ARCH)
    rotation = _rope(config)
    rope.check_rope(
        {**config, "rope_scaling": None, "rope_parameters": rotation}, ("default", "longrope"), partial=True
    )
    if rotation["rope_type"] == "longrope":
        for key in ("long_factor", "short_factor"):
            values = rotation.get(key)
            if not isinstance(values, list) or len(values) != _rotated(config) // 2:
                raise ModelError(f"config.json's rope scaling needs {_rotated(config) // 2} numbers as its {key}")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    rotation = _rope(config)
    original = int(rotation["original_max_position_embeddings"])
    decoder.put_sizes(ARCH, config, put)
    put(f"{ARCH}.rope.scaling.original_context_length", original, "uint32")
    decoder.put_rms(ARCH, config, put)
    put(f"{ARCH}.rope.dimension_count", _rotated(config), "uint32")
    put(f"{ARCH}.rope.freq_base", float(rotation["rope_theta"]), "float32")
    put(f"{ARCH}.attention.sliding_window", int(config.get("sliding_window") or 0), "uint32")
    if rotation["rope_type"] == "longrope":
        put(f"{ARCH}.rope.scaling.attn_factor", _attention_factor(config, rotation, original), "float32")


def _attention_factor(config: Mapping[str, Any], rotation: Mapping[str, Any], original: int) -> float:
    """By what the rotated values are multiplied: given, or of how much longer the context has become."""
    if rotation.get("attention_factor") is not None:
        return float(rotation["attention_factor"])
    longer = int(config["max_position_embeddings"]) / original
    return math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    rotation = _rope(config)
    given: dict[str, Deferred] = {}
    if rotation["rope_type"] == "longrope":
        for ours, theirs in (("long_factor", "rope_factors_long"), ("short_factor", "rope_factors_short")):
            given[f"{theirs}.weight"] = Given(f"{theirs}.weight", rotation[ours])
    return {**given, **decoder.named(config, weights, NAMES)}
