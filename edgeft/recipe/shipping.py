"""`merge:`, `export:`, `verify:`, `report:` of a recipe: what is written at the end. Part of `edgeft.recipe.schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from edgeft.recipe.names import ExportName, MergeBase, TensorType
from edgeft.recipe.section import Name, Section, Text

ImatrixFrom = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[Text, Tag("path")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "flag"),
]


class MergeSection(Section):
    """`merge:` true, false, or these keys. `merge_base` holds for every export too, written or not."""

    write: bool = Field(True, description="write the merged checkpoint as safetensors; `merge: true` is this")
    merge_base: MergeBase | None = Field(
        None,
        description="what the adapter is folded into: the 4-bit base dequantized (default for qlora: it is what was "
        "trained), the pristine 16-bit one (default for lora), or, with auto, the one that is nearer to the trained "
        "model on the validation rows, measured for the merged checkpoint and for each quantized file",
    )


class ExportOptions(Section):
    """Options of one export: those of quantized GGUF (of plain ones only `max_shard_size`), those of ONNX (the scales
    of quantized ones only), and `with_base` of adapters; what is left out is the exporter's choice."""

    imatrix: ImatrixFrom | None = Field(
        None, description="quantize by an importance matrix: true computes one of the training rows; or a file of one"
    )
    tensor_types: dict[Text, TensorType] | None = Field(
        None, description="types of single tensors, by a regular expression found in their name; the first that is wins"
    )
    token_embedding_type: TensorType | None = Field(None, description="type of the token embeddings")
    output_tensor_type: TensorType | None = Field(
        None, description="type of the output layer; in tied models that is the embeddings"
    )
    max_shard_size: Text | None = Field(None, description="split a larger GGUF file into shards, as 2GB or 500MB")
    quantizer: Literal["auto", "fast", "ggml"] | None = Field(
        None, description="of GGUF, who quantizes: auto takes the fast kernels where they work; the bytes are the same"
    )
    backend: Literal["genai", "optimum"] | None = Field(
        None, description="of ONNX: whose graph: onnxruntime-genai's (default), or that of Hugging Face's optimum"
    )
    builder: Literal["streamed", "stock", "auto"] | None = Field(
        None,
        description="ONNX: streamed (default) in the memory of the largest weight; stock merges to disk and holds all",
    )
    device: Literal["cpu", "mobile", "web"] | None = Field(
        None, description="ONNX: what the file is for; chooses provider and block_size; default cpu"
    )
    provider: Literal["cpu", "cuda", "dml", "webgpu"] | None = Field(
        None, description="ONNX: the execution provider that the graph is made for"
    )
    adapter: Literal["merged", "apart", "only"] | None = Field(
        None,
        description="ONNX: merged (default) into the weights; apart, a file beside the base's graph; only that file",
    )
    layout: Literal["genai", "transformers.js"] | None = Field(
        None, description="ONNX: transformers.js also lays the files out as that library looks for them"
    )
    block_size: Literal[16, 32, 64, 128] | None = Field(
        None, description="weights that share one scale; default 32, of device mobile 64"
    )
    symmetric: bool | None = Field(None, description="ONNX: false adds a zero point to each scale; default true")
    accuracy_level: Literal[1, 2, 3, 4] | None = Field(
        None, description="what activations are rounded to in quantized products: 4 is int8 (default), 1 float32"
    )
    algorithm: Literal["auto", "rtn", "default", "k_quant"] | None = Field(
        None, description="how scales are chosen: by rounding, or by a search (k_quant: nearer, slower); default auto"
    )
    head: Literal["int8", "same"] | None = Field(None, description="of int4: the output layer; default int8")
    layers: Literal["same", "int8"] | None = Field(
        None, description="of int4: the most sensitive of the other layers; default same"
    )
    embeddings: Literal["quantized", "float"] | None = Field(
        None, description="of int4: the embeddings too, or float32; default quantized"
    )
    max_length: int | None = Field(None, ge=1, description="tokens a generation may reach by default")
    with_base: Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"] | None = Field(
        None, description="of lora: write the base that the adapter goes on beside it, as GGUF of this type"
    )


class VerifySection(Section):
    """`verify:` how each exported file is compared with the trained model. It always is."""

    rows: Literal["train", "validation", "test"] | None = Field(
        None, description="the split whose rows are compared token by token; default test, else validation, else train"
    )
    limit: int | None = Field(64, ge=1, description="only this many rows, spread evenly; null is all")
    suites: list[Name] | None = Field(
        None, description="suites run again on the file itself; default those on the recipe's own rows"
    )


class ReportSection(Section):
    """`report:` the HTML page."""

    title: Text | None = Field(None, description="its title; default the recipe's name")
    samples: int = Field(12, ge=0, description="sample answers shown side by side")


def _merge_form(value: Any) -> Any:
    return {"write": value} if isinstance(value, bool) else value


def _export_form(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice")
        return {name: ExportOptions() for name in value}
    if isinstance(value, dict):
        return {name: {} if options is None else options for name, options in value.items()}
    return value


Merge = Annotated[MergeSection, BeforeValidator(_merge_form)]
Exports = Annotated[dict[ExportName, ExportOptions], BeforeValidator(_export_form)]
