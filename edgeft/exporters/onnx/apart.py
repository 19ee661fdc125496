"""A LoRA kept apart: the base's graph with two small inputs at each changed product, and the adapter's file for them.

The graph gets `+ (x A) B` at every projection, with A and B as inputs that are zero unless an adapter is active; the
file (ONNX Runtime's adapter format) holds them by the same names, the scale in B. So one base carries any adapter of
these projections, and onnxruntime-genai switches them at run time. Called by `decoder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.weights.adapter import Adapter, Lora, open_adapter
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.fold import matrix

SUFFIX = ".onnx_adapter"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_MODULE = re.compile(rf"^model\.layers\.(\d+)\.(self_attn|mlp)\.({'|'.join(PROJECTIONS)})$")
_NODE = re.compile(rf"^/model/layers\.(\d+)/(attn|mlp)/({'|'.join(PROJECTIONS)})/MatMul(_Q[48])?$")
_DO = "merge it into the weights: adapter: merged"


def check_apart(folder: Path) -> Adapter:
    """Read an adapter that can stay apart. Raises `ModelError` with the name of what such a file cannot hold."""
    adapter = open_adapter(folder)
    others = {"weights saved whole": adapter.replaced, "trained biases": adapter.shifts, "tokens": adapter.tokens}
    for what, found in others.items():
        if found:
            name = next(iter(found))
            raise ModelError(f"an ONNX adapter file cannot hold {what}: {name!r}", where=folder, do=_DO)
    for lora in adapter.loras.values():
        if lora.magnitude is not None:
            raise ModelError("an ONNX adapter file cannot hold DoRA's magnitudes", where=folder, do=_DO)
        if not _MODULE.match(lora.module):
            raise ModelError(
                f"an ONNX adapter file holds changes of {', '.join(PROJECTIONS)}; this adapter changes {lora.module!r}",
                where=folder,
                do=_DO,
            )
    return adapter


def write_adapter(path: Path, adapter: Adapter, dtype: str) -> None:
    """Write the adapter's matrices as ONNX Runtime reads them: A (in, rank), B (rank, out) times the scale, as `dtype`
    ("F32", "F16"), rounded once."""
    import onnxruntime

    values = {}
    for lora in adapter.loras.values():
        name = _prefix(lora)
        values[f"{name}.lora_A.weight"] = matrix(lora.a).T
        values[f"{name}.lora_B.weight"] = matrix(lora.b).T * lora.scale
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    kept = {name: value.to(torch_dtype(dtype)).contiguous().numpy() for name, value in sorted(values.items())}
    file.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in kept.items()})
    file.export_adapter(str(path))


def _prefix(lora: Lora) -> str:
    match = _MODULE.match(lora.module)
    assert match
    return _named(match[1], match[2].removeprefix("self_"), match[3])


def _named(layer: str, part: str, projection: str) -> str:
    return f"model.layers.{layer}.{part}.{projection}"


def open_for_adapters(path: Path) -> None:
    """Give the graph in `path` the inputs of adapters at all of its projections. The data file stays as it is."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    kind = next(value.type.tensor_type.elem_type for value in model.graph.output if value.name == "logits")
    nodes = []
    for node in model.graph.node:
        match = _NODE.match(node.name)
        nodes.append(node)
        if match:
            name = _named(match[1], match[2], match[3])
            nodes += _branch(node, name, onnx)
            for side, shape in zip("AB", _shapes(node, weights), strict=True):
                _add_input(model.graph, f"{name}.lora_{side}.weight", kind, shape, side)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def _branch(node: Any, name: str, onnx: Any) -> Iterator[Any]:
    """The product's output takes another name; its old one is the sum."""
    output, node.output[0] = node.output[0], f"{node.output[0]}/base"
    a, b = f"{node.name}/lora_A/output_0", f"{node.name}/lora_B/output_0"
    make = onnx.helper.make_node
    yield make("MatMul", [node.input[0], f"{name}.lora_A.weight"], [a], name=f"{node.name}/lora_A")
    yield make("MatMul", [a, f"{name}.lora_B.weight"], [b], name=f"{node.name}/lora_B")
    yield make("Add", [node.output[0], b], [output], name=f"{node.name}/lora_Add")


def _shapes(node: Any, weights: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, int], tuple[int, int]]:
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    rows, width = (sizes["K"], sizes["N"]) if "K" in sizes else weights[node.input[1]]
    return (rows, 1), (1, width)


def _add_input(graph: Any, name: str, kind: int, shape: tuple[int, int], side: str) -> None:
    """An input of any rank whose value, unless one is given, is zero with rank 1."""
    import onnx

    rank = f"{name.rpartition('.lora_')[0]}.rank"  # its own: ONNX Runtime reuses buffers between sizes of one name
    open_shape = [shape[0], rank] if side == "A" else [rank, shape[1]]
    graph.input.append(onnx.helper.make_tensor_value_info(name, kind, open_shape))
    size = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    graph.initializer.append(onnx.helper.make_tensor(name, kind, shape, bytes(shape[0] * shape[1] * size), raw=True))
