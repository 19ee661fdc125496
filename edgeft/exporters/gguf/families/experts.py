"""Experts of a layer as llama.cpp's stacks, from either layout of a checkpoint. Used by the mixture families.

One tensor for each expert and matrix (`mlp.experts.7.gate_proj.weight`, what Transformers saves), or all experts of a
layer in one (`mlp.experts.gate_up_proj`, `mlp.experts.down_proj`, what its modules hold).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import InnerRows, Stacked
from edgeft.weights import Deferred, Weights

PARTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
_ONE = re.compile(r"^(.+\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight$")
_MATRICES = ("down_proj", "gate_proj", "up_proj")


def check_counts(config: Mapping[str, Any], counted: str, *more: str) -> None:
    """Refuse a config whose counts of experts, or the sizes named besides, are none; `counted` is its name for how many
    a layer has."""
    decoder.check_sizes(config, counted, "num_experts_per_tok", *more)


def put_counts(arch: str, config: Mapping[str, Any], counted: str, put: Put) -> None:
    """How many experts a layer has, and how many of them a token goes through."""
    put(f"{arch}.expert_count", int(config[counted]), "uint32")
    put(f"{arch}.expert_used_count", int(config["num_experts_per_tok"]), "uint32")


def gathered(weights: Weights, experts: int, width: int, order: tuple[str, ...] = _MATRICES) -> dict[str, Deferred]:
    """The weights with the experts of each layer as three stacks, `…experts.gate_proj.weight` and so on, of `experts`
    matrices whose inner size is `width`, in this `order`. A `ModelError` when one is missing or does not fit."""
    found: dict[str, Deferred] = {}
    single: dict[str, dict[tuple[str, int], Deferred]] = {}
    for name, tensor in weights.items():
        if match := _ONE.match(name):
            layer = single.setdefault(match[1], {})
            layer[match[3], int(match[2])] = tensor
            if len(layer) == 3 * experts:
                found |= _stacks(match[1], layer, experts, order)
        elif name.removesuffix(".weight").endswith(".experts.gate_up_proj"):
            found |= _halves(name.removesuffix(".weight"), tensor, width)
        elif name.endswith(".experts.down_proj"):
            found[f"{name}.weight"] = tensor
        else:
            found[name] = tensor
    for prefix, layer in single.items():
        if len(layer) != 3 * experts:
            raise ModelError(f"the checkpoint has {len(layer)} of the {3 * experts} matrices of {prefix!r}")
    _check(found, experts, width)
    return found


def _stacks(
    prefix: str, layer: dict[tuple[str, int], Deferred], experts: int, order: tuple[str, ...]
) -> dict[str, Deferred]:
    stacks = {}
    for matrix in order:
        parts = [layer.get((matrix, number)) for number in range(experts)]
        whole = [part for part in parts if part is not None]
        if len(whole) != experts or len({(part.shape, part.dtype) for part in whole}) != 1:
            raise ModelError(f"the experts of {prefix!r} are not {experts} matrices {matrix!r} of one shape")
        stacks[f"{prefix}.{matrix}.weight"] = Stacked(f"{prefix}.{matrix}", whole)
    return stacks


def _halves(name: str, tensor: Deferred, width: int) -> dict[str, Deferred]:
    prefix = name.removesuffix(".gate_up_proj")
    if len(tensor.shape) != 3 or tensor.shape[1] != 2 * width:
        raise ModelError(f"{name!r} has the shape {tensor.shape}, not two matrices of {width} rows for each expert")
    return {
        f"{prefix}.gate_proj.weight": InnerRows(tensor, 0, width),
        f"{prefix}.up_proj.weight": InnerRows(tensor, width, 2 * width),
    }


def _check(found: dict[str, Any], experts: int, width: int) -> None:
    for name, tensor in found.items():
        if name.endswith(tuple(f".experts.{matrix}.weight" for matrix in _MATRICES)):
            inner = tensor.shape[2] if ".down_proj." in name else tensor.shape[1]
            if tensor.shape[0] != experts or inner != width:
                raise ModelError(f"{name!r} has the shape {tensor.shape}, not {experts} experts of width {width}")
