"""A classifier as an ONNX graph: traced by torch, then rounded to 16 bits or quantized by ONNX Runtime's own tools.

Called by `classifier`. The graph takes `input_ids` and `attention_mask` (int64[batch, length], both sizes open) and
gives `logits` (float32[batch, labels]) in every precision. What torch writes about where the model was traced (stack
traces with paths of this machine) is taken out, so that the same weights give the same bytes anywhere.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, ModelError
from edgeft.exporters.onnx.options import OnnxOptions
from edgeft.models.tokenizer import first_line

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"
_WHOLE = 1 << 30  # bytes of weights up to which they lie in the graph's own file: a protobuf holds 2 GiB
_TRACED = (2, 8)  # rows and tokens that the model is traced with; more than one, for one would be taken as fixed
# Products of whole numbers and angles: in 16 bits a position above 2048 is rounded, and its angle is another one.
_EXACT = ("Cos", "Sin", "Log", "Ceil")
# The norms of Llama and its kin: the square of a hidden value above 255 is infinite in 16 bits.
_NORMS = ("Pow", "ReduceMean", "Sqrt", "Reciprocal")


def trace(model: Any) -> Any:
    """The fp32 onnx.ModelProto of a transformers sequence classifier in eval mode. Raises `ModelError` when torch
    cannot trace it."""
    import torch
    import torch.onnx

    class Head(torch.nn.Module):
        """Only what a device gives and needs: no caches, no losses, no dictionaries."""

        def __init__(self) -> None:
            super().__init__()
            self.classifier = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    ids = torch.ones(_TRACED, dtype=torch.int64)
    sizes = {0: "batch", 1: "length"}
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                Head().eval(),
                (ids, torch.ones_like(ids)),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch.export raises many kinds, for anything that it cannot follow
        raise ModelError(
            f"torch cannot trace this classifier ({first_line(error)})", do="only families of docs/onnx.md are known"
        ) from error
    assert program is not None
    _forget_traces(program.model)
    return program.model_proto


def _forget_traces(model: Any) -> None:
    """Take out what the tracer tells of itself: stack traces, paths, the names of its passes."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch logs and warns of while it traces."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def as_type(graph: Any, type_name: str, options: OnnxOptions, scratch: Path) -> Any:
    """The fp32 graph as fp16, int8 or int4, a new onnx.ModelProto (fp32: itself).

    fp16  but for norms and for what positions are computed with
    int8  8-bit weights, a scale for each column; activations are quantized when it runs (ONNX Runtime's dynamic
          quantization). Weights keep to 7 bits: CPUs without VNNI add pairs of products in 16 bits, which overflow
    int4  weights in blocks, as in decoders; the head stays as it is
    """
    try:
        with _quietly():
            if type_name == "fp16":
                return _halved(graph)
            if type_name == "int8":
                return _dynamic(graph, options, scratch)
            return _blocks(graph, options) if type_name == "int4" else graph
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise EdgeftError(
            f"ONNX Runtime's tools cannot make {type_name} of this graph ({first_line(error)})"
        ) from error


def _halved(graph: Any) -> Any:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    halved = convert_float_to_float16(
        graph,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_NORMS],
        node_block_list=sorted(_leading_to(graph, _EXACT)),
    )
    made: set[str] = set()
    for node in list(halved.graph.node):  # of a value that a node takes twice it makes two casts with one name
        if node.op_type == "Cast" and node.output[0] in made:
            halved.graph.node.remove(node)
        made.update(node.output)
    return halved


def _leading_to(graph: Any, kinds: tuple[str, ...]) -> set[str]:
    """Names of the nodes of some kinds and of all that they are computed from."""
    makers = {output: node for node in graph.graph.node for output in node.output}
    found: set[str] = set()
    ahead = [node for node in graph.graph.node if node.op_type in kinds]
    while ahead:
        node = ahead.pop()
        if node.name not in found:
            found.add(node.name)
            ahead += [makers[name] for name in node.input if name in makers]
    return found


def _dynamic(graph: Any, options: OnnxOptions, scratch: Path) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph.graph.ClearField("value_info")  # torch's shapes of transposed weights contradict the quantizer's
    kinds = ["MatMul", *(["Gather"] if options.embeddings == "quantized" else [])]
    with tempfile.TemporaryDirectory(dir=scratch) as place:  # it gives its result to a file only
        path = Path(place) / "int8.onnx"
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=kinds,
            nodes_to_exclude=_heads(graph),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=graph.ByteSize() > _WHOLE,
        )
        return onnx.load(str(path))


def _blocks(graph: Any, options: OnnxOptions) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        graph,
        bits=4,
        block_size=options.block,
        is_symmetric=options.symmetric,
        accuracy_level=options.accuracy_level,
        nodes_to_exclude=_heads(graph),
        op_types_to_quantize=("MatMul", "Gather") if options.embeddings == "quantized" else ("MatMul",),
    )
    quantizer.process()
    return quantizer.model.model


def _heads(graph: Any) -> list[str]:
    """The node of the last weight, which is the head's: a handful of columns that decide."""
    constant = {tensor.name for tensor in graph.graph.initializer}
    products = [
        node.name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in constant
    ]
    return products[-1:]


def describe(graph: Any, facts: Mapping[str, str]) -> None:
    """Put what a device must know into the graph's metadata."""
    import onnx

    graph.doc_string = ""
    graph.producer_name, graph.producer_version = "edgeft", ""
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, dict(facts))


def save(graph: Any, path: Path) -> None:
    """Write the graph: one file, or with its weights beside it where they are too large for a protobuf."""
    import onnx

    if graph.ByteSize() > _WHOLE:
        onnx.save_model(graph, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        onnx.save_model(graph, str(path))
