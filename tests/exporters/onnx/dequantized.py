"""The weights that a quantized ONNX file really holds, by the checkpoint's names: for telling two errors apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def weights_of(graph: Path, heads: tuple[int, int, int]) -> dict[str, Any]:
    """float32 arrays (out, in) of the products of a Llama. heads: rows of q, k and v where they are one product."""
    model = onnx.load(graph)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        packed, scales = arrays[node.input[1]], arrays[node.input[2]]
        values = packed if sizes["bits"] == 8 else np.stack([packed & 15, packed >> 4], axis=-1)
        values = values.reshape(sizes["N"], -1, sizes["block_size"]).astype(np.float32)
        middle = 1 << (sizes["bits"] - 1)
        weight = ((values - middle) * scales.reshape(sizes["N"], -1, 1)).reshape(sizes["N"], -1)[:, : sizes["K"]]
        name = re.sub(r"_Q[48]$", "", node.name).removesuffix("/MatMul")[1:].replace("/", ".")
        name = name.replace(".attn.", ".self_attn.")
        if name.endswith("qkv_proj"):
            parts = np.split(weight, np.cumsum(heads)[:-1])
            found |= {name.replace("qkv_proj", f"{part}_proj"): value for part, value in zip("qkv", parts, strict=True)}
        else:
            found[name] = weight
    return found
