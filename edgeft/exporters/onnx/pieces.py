"""An ONNX graph run piece by piece, so that the trial of a large file needs no memory for all of its weights.

Pieces are runs of nodes in the graph's order whose weights stay below a limit; what one computes is fed to the next.
Each is a session of ONNX Runtime over the same data file. Called by `accept`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.exporters.onnx.memory import give_back

_LIMIT = 96 << 20  # bytes of weights of a piece; a single larger weight is a piece of its own
_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass
class Piece:
    """Nodes that follow each other, with the names they take from outside and the bytes of their weights."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    size: int = 0

    def made(self) -> set[str]:
        return {name for node in self.nodes for name in node.output if name}

    def wanted(self) -> set[str]:
        return {name for node in self.nodes for name in _used(node)} - self.made() - set(self.weights)


class Pieces:
    """The pieces of a file. `inputs` and `outputs`: of the whole graph, by name -> onnx's element type, shape."""

    def __init__(self, path: Path, providers: list[str], limit: int = _LIMIT) -> None:
        import onnx

        self._path, self._providers, self._limit = path, providers, limit
        self._model = onnx.load(path, load_external_data=False)
        graph = self._model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name: _described(value) for value in graph.input if value.name not in weights}
        self.outputs = [value.name for value in graph.output]
        self.pieces = list(_cut(_untransposed(graph.node, weights), weights, limit))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's outputs for its inputs, numpy arrays by name."""
        known = dict(feeds)
        for number, piece in enumerate(self.pieces):
            later = {name for other in self.pieces[number + 1 :] for name in other.wanted()} | set(self.outputs)
            given = {name: known[name] for name in piece.wanted()}
            work = self._product if self._is_large_product(piece) else self._run
            known |= work(piece, given, sorted(piece.made() & later))
            known = {name: value for name, value in known.items() if name in later}
        return {name: known[name] for name in self.outputs}

    def _is_large_product(self, piece: Piece) -> bool:
        return len(piece.nodes) == 1 and piece.nodes[0].op_type == "MatMul" and piece.size > self._limit

    def _product(self, piece: Piece, feeds: Mapping[str, Any], outputs: list[str]) -> dict[str, Any]:
        """A float product with a weight above the limit (the last one of a large vocabulary), in slices of its rows:
        ONNX Runtime would hold all of it, on CPUs in 32 bits."""
        import numpy as np
        import onnx

        node, (weight,) = piece.nodes[0], piece.weights.values()
        external = {entry.key: entry.value for entry in weight.external_data}
        kind = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
        rows, width = weight.dims
        left = feeds[node.input[0]].astype(np.float32)
        total = np.zeros((*left.shape[:-1], width), dtype=np.float32)
        step = max(1, self._limit // 4 // (4 * width))
        with (self._path.parent / external["location"]).open("rb") as stream:
            stream.seek(int(external.get("offset", 0)))
            for at in range(0, rows, step):
                count = min(step, rows - at)
                part = np.fromfile(stream, dtype=kind, count=count * width).reshape(count, width)
                total += left[..., at : at + count] @ part.astype(np.float32)
        return {outputs[0]: total.astype(feeds[node.input[0]].dtype)}

    def _run(self, piece: Piece, feeds: Mapping[str, Any], outputs: list[str]) -> dict[str, Any]:
        import onnx
        import onnxruntime

        inputs = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
            )
            for name, value in feeds.items()
        ]
        results = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = onnx.helper.make_graph(piece.nodes, "piece", inputs, results, list(piece.weights.values()))
        model = onnx.helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        if piece.size > self._limit:
            give_back()
            # One large weight: it stays in its file, without a copy in another order.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            if not any(node.op_type == "MatMulNBits" for node in piece.nodes):
                options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry(_FOLDER, str(self._path.parent))
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=self._providers)
        return dict(zip(outputs, session.run(outputs, dict(feeds)), strict=True))


def _untransposed(nodes: Any, weights: Mapping[str, Any]) -> Iterator[Any]:
    """The nodes, where rows of a transposed weight are gathered (tied float embeddings) with its columns instead: the
    same values without a second copy of it."""
    import onnx

    turned = {
        node.output[0]: node.input[0] for node in nodes if node.op_type == "Transpose" and node.input[0] in weights
    }
    for node in nodes:
        if node.op_type == "Gather" and node.input[0] in turned:
            made = f"{node.output[0]}/columns"
            weight = turned[node.input[0]]
            yield onnx.helper.make_node("Gather", [weight, node.input[1]], [made], name=f"{node.name}/columns", axis=1)
            yield onnx.helper.make_node("Transpose", [made], [node.output[0]], name=f"{node.name}/rows", perm=[1, 2, 0])
        elif not (node.op_type == "Transpose" and node.output[0] in turned):
            yield node


def _described(value: Any) -> tuple[int, tuple[int | str, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)


def _cut(nodes: Any, weights: Mapping[str, Any], limit: int) -> Iterator[Piece]:
    piece, single = Piece(), None
    for node in nodes:
        new = {name: weights[name] for name in _used(node) if name in weights and name not in piece.weights}
        size = sum(_bytes(tensor) for tensor in new.values())
        alone = node.op_type == "MatMul" and size > limit
        if piece.nodes and (alone or piece.size + size > limit or piece.nodes[-1] is single):
            yield piece
            piece = Piece()
            new = {name: weights[name] for name in _used(node) if name in weights}
            size = sum(_bytes(tensor) for tensor in new.values())
        piece.nodes.append(node)
        piece.weights |= new
        piece.size += size
        single = node if alone else None
    yield piece


def _used(node: Any) -> Iterator[str]:
    """What a node takes, with what the graphs inside it take from around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            inside = {name for inner in graph.node for name in inner.output}
            inside |= {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
            yield from (name for inner in graph.node for name in _used(inner) if name not in inside)


def _bytes(tensor: Any) -> int:
    external = {entry.key: entry.value for entry in tensor.external_data}
    return int(external.get("length", 0)) or len(tensor.raw_data)
