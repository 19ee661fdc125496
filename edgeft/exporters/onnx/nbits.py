"""Weights in 4 and 8 bits: onnxruntime-genai's own rewriting of the graph, and the values slab by slab afterwards.

The builder quantizes a protobuf copy of the whole float model. Here it gets a skeleton to rewrite, in which every large
initializer is a single block; names, order and attributes come out as its own. Then the blocks give way to tensors that
quantize their weight when they are written, with the same functions of ONNX Runtime. Called by `streamed`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeft.exporters.onnx.late import STOCK, NotCarried
from edgeft.exporters.onnx.slabs import FloatSlabs, columns, float_array, initializer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.weights import Deferred

    Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8] | None]  # packed, scales, zero points

_LARGE = 1 << 10  # bytes above which an initializer is hollow in the skeleton
_SLAB = 8 << 20  # bytes of float32 values that are quantized at once


@dataclass(frozen=True)
class How:
    """How one weight is quantized: along its `rows`, in blocks."""

    algorithm: str  # "default", "rtn", "k_quant"; of embeddings "gather" (4 bits), "gather8"
    bits: int
    block_size: int
    symmetric: bool


def to_nbits(model: Any, rewrite: Callable[[], Any], scratch: Path, *, table: bool = False) -> Any:
    """The quantized onnx_ir model of a builder's `model`; `rewrite` is the builder's own way to it. `table`: the
    embeddings in 8 bits too, which the builder cannot."""
    graph = model.model.graph
    uses = {node.name: (node.op_type, _weight(node)) for node in graph if _weight(node)}
    kept = _hollowed(graph, {name: op for op, name in uses.values()}, model.quant_attrs["matmul_block_size"])
    quantized = rewrite()
    _filled(quantized, kept, uses, model, scratch)
    if table:
        _table(quantized, kept, uses, model.quant_attrs["matmul_block_size"], scratch)
    return quantized


def _table(model: Any, kept: Mapping[str, Any], uses: Mapping[str, Any], block: int, scratch: Path) -> None:
    """Gather from a float table -> GatherBlockQuantized in 8 bits: values around 128, a scale for each block."""
    import onnx_ir

    graph = model.graph
    for node in list(graph):
        if node.op_type != "Gather" or uses.get(node.name, ("", ""))[1] not in kept:
            continue
        name = uses[node.name][1]
        tensor = kept[name]
        parts = _gather_parts(_Quantized(tensor, How("gather8", 8, block, True), scratch), *tensor.shape.numpy())
        packed, scales = (onnx_ir.Value(name=f"{name}_{end}") for end in (f"Q8G{block}", "scales"))
        _put(packed, parts["packed"], onnx_ir.DataType.UINT8)
        _put(scales, parts["scales"], tensor.dtype)
        for value in (packed, scales):
            value.type = onnx_ir.TensorType(value.const_value.dtype)
            graph.register_initializer(value)
        made = onnx_ir.Node(
            "com.microsoft",
            "GatherBlockQuantized",
            [packed, node.inputs[1], scales],
            [
                onnx_ir.AttrInt64("bits", 8),
                onnx_ir.AttrInt64("block_size", block),
                onnx_ir.AttrInt64("gather_axis", 0),
                onnx_ir.AttrInt64("quantize_axis", 1),
            ],
            name=f"{node.name}_Q8",
            num_outputs=1,
        )
        given, old = made.outputs[0], node.outputs[0]
        given.name, given.type, given.shape = old.name, old.type, old.shape
        onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], [made], [old], [given])
        if not list(graph.initializers[name].uses()):
            del graph.initializers[name]


def _weight(node: Any) -> str | None:
    """The initializer that a quantizer would replace in this node."""
    index = {"MatMul": 1, "Gather": 0}.get(node.op_type)
    if index is None or len(node.inputs) <= index or node.inputs[index] is None:
        return None
    value = node.inputs[index]
    return str(value.name) if value.const_value is not None else None


def _hollowed(graph: Any, weights: Mapping[str, str], block: int) -> dict[str, Any]:
    """Put a single block in the place of each large float initializer; returns the initializers by name."""
    import numpy as np
    import onnx_ir

    kept = {}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        floats = tensor.dtype in (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
        if not floats or tensor.nbytes <= _LARGE or (name in weights and len(tensor.shape) != 2):
            continue
        shape = {"MatMul": (block, 1), "Gather": (1, block)}.get(weights.get(name, ""), (1,) * len(tensor.shape))
        few = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape).astype(tensor.dtype.numpy())
        kept[name] = tensor
        value.const_value = onnx_ir.Tensor(few, dtype=tensor.dtype, name=name)
    return kept


def _filled(model: Any, kept: Mapping[str, Any], uses: Mapping[str, Any], builder: Any, scratch: Path) -> None:
    import onnx_ir

    symmetric = bool(builder.quant_attrs["is_symmetric"])
    algorithm = builder.quantization_algo
    for node in model.graph:
        origin = node.name.rpartition("_Q")[0]
        if node.op_type not in ("MatMulNBits", "GatherBlockQuantized") or origin not in uses:
            continue
        weight = uses[origin][1]
        if weight not in kept:
            continue  # a small one: the rewriting has done all of it
        tensor = kept[weight]
        block = node.attributes["block_size"].as_int()
        if node.op_type == "MatMulNBits":
            rows, width = tensor.shape.numpy()
            how = How(algorithm, node.attributes["bits"].as_int(), block, symmetric)
            node.attributes["K"] = onnx_ir.AttrInt64("K", rows)
            node.attributes["N"] = onnx_ir.AttrInt64("N", width)
            parts = _matmul_parts(_Quantized(tensor, how, scratch), rows, width)
            named = dict(zip(("packed", "scales", "zeros"), node.inputs[1:], strict=False))
        else:
            how = How("gather", 4, block, symmetric)
            rows, width = tensor.shape.numpy()
            parts = _gather_parts(_Quantized(tensor, how, scratch), rows, width)
            named = dict(zip(("packed", "scales", "zeros"), (node.inputs[0], *node.inputs[2:]), strict=False))
        for part, value in named.items():
            _put(value, parts[part], value.const_value.dtype)
    for name, tensor in kept.items():
        if name in model.graph.initializers:
            model.graph.initializers[name].const_value = tensor


def _put(value: Any, part: tuple[Any, tuple[int, ...]], dtype: Any) -> None:
    import onnx_ir

    slabs, shape = part
    value.const_value = initializer(slabs, value.name, dtype, shape)
    value.shape = onnx_ir.Shape(shape)


def _matmul_parts(quantized: _Quantized, rows: int, width: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """The inputs of MatMulNBits for a weight (rows, width): packed (N, blocks, bytes of a block), scales (N, blocks),
    zero points (N, bytes); RTN and k-quant leave the scales' and zero points' shapes as they pack them."""
    how = quantized.how
    blocks = -(-rows // how.block_size)
    per_byte = 8 // how.bits
    return {
        "packed": (_Part(quantized, "packed"), (width, blocks, how.block_size // per_byte)),
        "scales": (_Part(quantized, "scales"), (width, blocks)),
        "zeros": (_Part(quantized, "zeros"), (width, -(-blocks // per_byte))),
    }


def _gather_parts(quantized: _Quantized, rows: int, width: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    blocks = -(-width // quantized.how.block_size)
    return {
        "packed": (_Part(quantized, "packed"), (rows, width)),
        "scales": (_Part(quantized, "scales"), (rows, blocks)),
        "zeros": (_Part(quantized, "zeros"), (rows, blocks)),
    }


class _Part:
    """One of the tensors that a quantized weight consists of."""

    def __init__(self, quantized: _Quantized, name: str) -> None:
        self._quantized, self._name = quantized, name

    def write(self, stream: BinaryIO) -> None:
        self._quantized.write(self._name, stream)


class _Quantized:
    """A weight that is quantized once, when the first of its parts is written.

    Scales and zero points are kept until they are written. Packed values go straight to the file; when another part
    comes first they wait in a temporary file."""

    def __init__(self, tensor: Any, how: How, scratch: Path) -> None:
        self.tensor, self.how, self._scratch = tensor, how, scratch
        self._kept: dict[str, list[Any]] | None = None
        self._packed: Any = None

    def write(self, part: str, stream: BinaryIO) -> None:
        if self._kept is None:
            self._quantize(stream if part == "packed" else None)
            if part == "packed":
                return
        if part == "packed":
            self._copy_packed(stream)
            return
        assert self._kept is not None
        for array in self._kept.pop(part):
            stream.write(memoryview(array).cast("B"))

    def _quantize(self, stream: BinaryIO | None) -> None:
        import numpy as np

        self._kept = {"scales": [], "zeros": []}
        if stream is None:
            self._packed = stream = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
        for packed, scales, zeros in self._slabs():
            stream.write(memoryview(np.ascontiguousarray(packed)).cast("B"))
            if scales.dtype.name == "bfloat16":
                scales = scales.view(np.uint16)
            self._kept["scales"].append(np.ascontiguousarray(scales))
            if zeros is not None:
                self._kept["zeros"].append(np.ascontiguousarray(zeros))

    def _copy_packed(self, stream: BinaryIO) -> None:
        import shutil

        self._packed.seek(0)
        shutil.copyfileobj(self._packed, stream, 1 << 20)
        self._packed.close()
        self._packed = None

    def _slabs(self) -> Iterator[Arrays]:
        slabs = getattr(self.tensor, "slabs", None)
        if not isinstance(slabs, FloatSlabs):
            raise NotCarried(
                f"the streamed export does not quantize the initializer {self.tensor.name!r}, which is no weight of "
                "the checkpoint",
                do=STOCK,
            )
        if self.how.algorithm in ("gather", "gather8"):
            if slabs.turned:
                raise NotCarried("the streamed export does not quantize a turned embedding", do=STOCK)
            yield from (_gathered if self.how.algorithm == "gather" else _bytes)(slabs.source, self.how)
            return
        wanted = max(1, _SLAB // (4 * self.tensor.shape[0]))
        quantize = {"default": _default, "rtn": _grouped, "k_quant": _grouped}[self.how.algorithm]
        for values in columns(slabs.source, slabs.turned, wanted):
            yield quantize(float_array(values, slabs.source.dtype), self.how, slabs.source.dtype)


def _default(weight: NDArray[Any], how: How, dtype: str) -> Arrays:
    """ONNX Runtime's own kernel on some columns (rows, columns) of a weight."""
    import ml_dtypes
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    config = nbits.DefaultWeightOnlyQuantConfig(block_size=how.block_size, is_symmetric=how.symmetric, bits=how.bits)
    packed, scales, zeros = nbits.DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight)
    return packed, scales.astype(ml_dtypes.bfloat16) if dtype == "BF16" else scales, None if how.symmetric else zeros


def _grouped(weight: NDArray[Any], how: How, _: str) -> Arrays:
    """Round to nearest, or llama.cpp's search, as ONNX Runtime has them in Python."""
    import onnx
    from onnxruntime.quantization.neural_compressor import weight_only

    rows, width = weight.shape
    blocks = -(-rows // how.block_size)
    padded = weight_only.pad_tensor(weight, how.block_size, blocks)
    if how.algorithm == "k_quant":
        values, scales, zeros = weight_only.quant_tensor_k_quant_cpu(padded.T, how.bits, how.block_size)
    else:
        scheme = "sym" if how.symmetric else "asym"
        values, scales, zeros = weight_only.quant_tensor(padded.T, how.bits, how.block_size, scheme, "uint", 1)
        zeros = None if how.symmetric else zeros
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"], name="n")
    values, scales = values.astype("uint8"), scales.astype(weight.dtype)
    _, made = weight_only.make_matmul_weight_only_node(
        node, (rows, width), how.bits, how.block_size, blocks, values, scales, zeros
    )
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made}
    packed = arrays[f"b_Q{how.bits}G{how.block_size}"]
    found: NDArray[np.uint8] | None = arrays.get("b_zp")
    return packed, arrays["b_scale"], found


def _gathered(source: Deferred, how: How) -> Iterator[Arrays]:
    """The rows of an embedding in 4 bits. Two values share a byte across rows: where rows are odd, all at once."""
    import torch
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    width = source.shape[1]
    odd = width % 2 or (not how.symmetric and -(-width // how.block_size) % 2)
    for chunk in [source.read()] if odd else source.chunks(max(1, _SLAB // (4 * width))):
        if chunk.dtype == torch.bfloat16:
            import ml_dtypes

            values = chunk.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        else:
            values = chunk.numpy()
        yield nbits.DefaultWeightOnlyQuantizer.quantize_ndarray(values, 1, how.block_size, how.symmetric)


def _bytes(source: Deferred, how: How) -> Iterator[Arrays]:
    """The rows of an embedding in 8 bits, around 128, the largest value of each block 127 steps from it."""
    import numpy as np

    width = source.shape[1]
    blocks = -(-width // how.block_size)
    for chunk in source.chunks(max(1, _SLAB // (4 * width))):
        values = np.zeros((len(chunk), blocks * how.block_size), np.float32)
        values[:, :width] = chunk.float().numpy()
        values = values.reshape(len(chunk), blocks, how.block_size)
        scales = np.abs(values).max(axis=2) / 127
        kept = scales.astype(np.float16).astype(np.float32) if source.dtype == "F16" else scales
        steps = np.rint(values / np.where(kept > 0, kept, 1.0)[..., None]) + 128
        packed = np.clip(steps, 0, 255).astype(np.uint8).reshape(len(chunk), -1)[:, :width]
        yield packed, scales.astype(np.float16) if source.dtype == "F16" else scales, None
