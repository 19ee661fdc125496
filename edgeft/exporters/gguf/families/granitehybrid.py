"""Granite 4 without state-space layers (micro, 1b, 350m) as llama.cpp's `granite`: gate and up in one matrix are split.

Granite 4 with state-space layers or experts is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, granite
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Blocks
from edgeft.weights import Deferred, Weights

ARCH = granite.ARCH
_FUSED, _DOWN = ".shared_mlp.input_linear.weight", ".shared_mlp.output_linear.weight"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """As a dense Granite's config."""
    found = decoder.settings(config, shared_intermediate_size=1024)
    return {**found, "intermediate_size": found["shared_intermediate_size"]}


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    granite.check(config)
    kinds = config.get("layer_types") or ["mamba"]
    decoder.refuse(
        len(kinds) != int(config["num_hidden_layers"]) or not set(kinds) <= {"attention", "full_attention"},
        "edgeft writes Granite 4 only without state-space layers; this model's layer_types have others than attention",
    )
    decoder.refuse(
        config.get("num_local_experts", 8), "edgeft writes Granite 4 only without experts; this model has some"
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    granite.metadata(_settings(config), put)
    put(f"{ARCH}.rope.scaling.finetuned", config.get("position_embedding_type") == "rope", "bool")  # else: no rotation


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    width = int(config["intermediate_size"])
    found: dict[str, Deferred] = {}
    for name, tensor in weights.items():
        layer = name.removesuffix(_FUSED)
        if layer != name:
            if tensor.n_rows != 2 * width:
                raise ModelError(f"{name!r} has {tensor.n_rows} rows, not two matrices of {width}")
            found[f"{layer}.mlp.gate_proj.weight"] = Blocks(tensor, [(0, width)])
            found[f"{layer}.mlp.up_proj.weight"] = Blocks(tensor, [(width, 2 * width)])
        else:
            found[name.replace(_DOWN, ".mlp.down_proj.weight")] = tensor
    return granite.tensors(config, found)
