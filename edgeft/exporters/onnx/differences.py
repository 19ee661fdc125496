"""What of an ONNX folder is not what its source makes of it: the rotary base, and the layers' matrices row by row.
Called by the `verify` stage, as `edgeft.exporters.gguf.differences` is for GGUF files, with the same form of answer.

The graphs are those of onnxruntime-genai's builder, whose names tell the layer and the matrix; what is named otherwise
(optimum's graphs) is not compared here. Norms, embeddings and the output layer are not either: the logits tell them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.rows import compared
from edgeft.progress import Listener, Progress, silent
from edgeft.weights import Deferred
from edgeft.weights.checkpoint import read_config

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_MATRIX = re.compile(r"^model\.layers\.(?P<layer>\d+)\.(?P<part>attn|mlp)\.(?P<name>\w+)\.MatMul\.weight")
_PARTS = {"attn": "self_attn", "mlp": "mlp"}
_TOGETHER = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ROPE = 1e-2  # relative difference of two rotary bases that rounding of the table explains


def differences(source: ExportSource, graph: Path, listen: Listener = silent) -> dict[str, Any] | None:
    """{"settings": [{"key", "wanted", "found"}], "tensors": {"read", "worst", "wrong": [{"name", "rows", "what"}]}};
    None for a graph without a matrix that is known by its name. A `ModelError` when it cannot be read."""
    import onnx

    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common base
        raise ModelError(f"this is not an ONNX graph ({type(error).__name__})", where=graph) from None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if len(node.input) > 1 and _MATRIX.match(node.input[1])]
    wanted = source.weights()
    wrong: list[dict[str, Any]] = []
    worst: dict[str, float] = {}
    read = 0
    for number, node in enumerate(nodes, 1):
        values, kind = _values(node, stored, graph.parent)
        for name, part in _named(node.input[1], values, wanted):
            entry, error = compared(wanted[name], _Read(name, part), kind)
            wrong += [{"name": name, **entry}] if entry else []
            worst[kind] = max(worst.get(kind, 0.0), error)
            read += 1
        listen(Progress(number, len(nodes), "weight", "comparing weights", {"tensor": node.input[1]}))
    if not read:
        return None
    settings = list(_rope(source, stored, graph.parent))
    return {"settings": settings, "tensors": {"read": read, "worst": worst, "wrong": wrong}}


class _Read(Deferred):
    """float32[N, K] values that were read, as a deferred tensor."""

    def __init__(self, name: str, values: NDArray[np.float32]) -> None:
        self.name, self.dtype, self._values = name, "F32", values
        self.shape = tuple(values.shape)

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        yield torch.from_numpy(self._values[start:stop])


def _values(node: Any, stored: Mapping[str, Any], folder: Path) -> tuple[NDArray[np.float32], str]:
    """float32[N, K] of a matrix, and the type it is stored in: a row is what one output is made of."""
    import numpy as np

    weight = _array(stored, node.input[1], folder)
    if node.op_type != "MatMulNBits":
        return np.ascontiguousarray(weight.astype(np.float32).T), _FLOATS.get(str(weight.dtype), str(weight.dtype))
    given = {attribute.name: attribute.i for attribute in node.attribute}
    bits, width = given["bits"], given["K"]
    scales = _array(stored, node.input[2], folder).astype(np.float32).reshape(len(weight), -1, 1)
    zeros: Any = np.float32(1 << (bits - 1))
    if len(node.input) > 3 and node.input[3]:
        packed = _array(stored, node.input[3], folder).reshape(len(weight), -1)
        zeros = _unpacked(packed, bits)[:, : scales.shape[1], None]
    values = (_unpacked(weight, bits) - zeros) * scales
    return np.ascontiguousarray(values.reshape(len(weight), -1)[:, :width]), f"Q{bits}"


def _unpacked(packed: NDArray[np.uint8], bits: int) -> NDArray[np.float32]:
    """Levels of packed bytes, the low half first where two share one."""
    import numpy as np

    if bits == 8:
        return packed.astype(np.float32)
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1).astype(np.float32)


def _array(stored: Mapping[str, Any], name: str, folder: Path) -> Any:
    from onnx import numpy_helper

    if name not in stored:
        raise ModelError(f"the graph names {name!r} and does not hold it", where=folder)
    try:
        return numpy_helper.to_array(stored[name], str(folder))
    except Exception as error:  # a short or missing file of weights
        raise ModelError(f"{name} cannot be read ({error})", where=folder) from None


def _named(
    name: str, values: NDArray[np.float32], wanted: Mapping[str, Deferred]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """A matrix by its checkpoint name; several that the graph computes together, each by its own."""
    match = _MATRIX.match(name)
    assert match is not None
    before = f"model.layers.{match['layer']}.{_PARTS[match['part']]}."
    names = [f"{before}{match['name']}.weight"]
    if names[0] not in wanted:
        names = [f"{before}{part}.weight" for part in _TOGETHER.get(match["name"], ())]
    at = 0
    for known in names:
        if known not in wanted:
            return
        count = wanted[known].shape[0]
        if at + count <= len(values) and values.shape[1:] == wanted[known].shape[1:]:
            yield known, values[at : at + count]
        at += count


def _rope(source: ExportSource, stored: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """The base of plain rotary embeddings, from the graph's table of sines: row 1 is base^(-2i/d)."""
    config = read_config(source.base)
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.get("rope_theta") or (told.get("rope_theta") if isinstance(told, dict) else None)
    scaled = isinstance(told, dict) and told.get("rope_type", told.get("type", "default")) != "default"
    if "sin_cache" not in stored or scaled or not isinstance(theta, int | float):
        return
    sines = _array(stored, "sin_cache", folder)
    last = sines.shape[1] - 1
    if len(sines) < 2 or last < 1 or not 0 < float(sines[1, last]) < 1:
        return
    found = math.asin(float(sines[1, last])) ** (-sines.shape[1] / last)
    if abs(found - theta) > _ROPE * theta:
        yield {"key": "rope.freq_base", "wanted": float(theta), "found": float(f"{found:.4g}")}
