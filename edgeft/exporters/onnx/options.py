"""What an ONNX export can be asked for, with the defaults and why they are the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.errors import RecipeError

# type -> one-line help.
TYPES: dict[str, str] = {
    "fp32": "the trained weights unrounded; the reference, and the largest",
    "fp16": "half the size of fp32; computed in 16 bits too",
    "bf16": "16 bits with the range of fp32, for CUDA devices",
    "int8": "8-bit weights in blocks; embeddings stay unquantized",
    "int4": "4-bit weights in blocks, embeddings included; the smallest",
}
# Execution providers that run a type. (CPUs run fp16 in the form that is made for GPUs: see `provider_of`.)
_PROVIDERS: dict[str, tuple[str, ...]] = {
    "fp32": ("cpu", "cuda"),
    "fp16": ("cpu", "cuda", "dml", "webgpu"),
    "bf16": ("cuda",),
    "int8": ("cpu", "cuda", "webgpu"),
    "int4": ("cpu", "cuda", "dml", "webgpu"),
}
# What a device asks for where the recipe says nothing: the provider, and weights that share one scale.
_DEVICES: dict[str, tuple[str, int]] = {"cpu": ("cpu", 32), "mobile": ("cpu", 64), "web": ("webgpu", 32)}


_OF_OPTIMUM = {"backend", "check", "block_size", "accuracy_level", "max_length", "threads"}


class OnnxOptions(BaseModel):
    """Options of one export; of the scales and what follows them, fp32, fp16 and bf16 take none.

    The defaults come near to what llama.cpp's q4_k_m keeps of the trained model. Measured on a model of 3 million
    parameters, int4, mean KL divergence and size: the builder's own defaults 0.0082, 2.11 MB; these 0.0057, 2.37 MB;
    with `algorithm: k_quant` and `layers: int8` 0.0018, 2.70 MB (q4_k_m: 0.0037, 1.91 MB).

    backend         "genai": onnxruntime-genai's graphs; "optimum": those of Hugging Face's optimum, which has an
                    environment of its own (see `optimum`); of the options below it takes block_size, accuracy_level,
                    max_length and threads
    builder         "streamed": weights are read, folded and quantized while the file is written, in the memory of the
                    largest; "stock": merged to disk first, then onnxruntime-genai's builder as it is (the same bytes);
                    "auto": streamed, and stock for what that refuses, with a warning
    device          what the file is for; chooses `provider` and `block_size` where they are left out
    provider        ONNX Runtime's execution provider that the graph is made for
    adapter         "merged" into the weights; "apart": the base's graph with an adapter file beside it, switched at run
                    time; "only": the adapter file alone, for a base that lies elsewhere
    layout          "genai": onnxruntime-genai's folder; "transformers.js": also as that library looks for it
    block_size      weights that share one scale
    symmetric       scales only, or a zero point for each block too (larger, nearer)
    accuracy_level  what activations are rounded to inside a quantized product: 4 = int8 (several times faster on CPUs,
                    the runtime's own default), 1 = fp32 (no rounding of activations)
    algorithm       how scales are chosen: "rtn" (round to nearest), "default" (the same by ONNX Runtime's own kernel),
                    "k_quant" (a search as in llama.cpp: nearer to the trained model, 10 times slower to export). "auto"
                    is "rtn" for tied embeddings and "default" for others: each is the one that quantizes them all
    head            bits of the last product, the most sensitive one: "int8", or "same" as the others (int4 only)
    layers          bits of the most sensitive of the other products (llama.cpp's choice): "same" or "int8" (int4 only)
    embeddings      "quantized": the table too; "float": as the library's builder leaves untied ones (int4 only)
    check           compare the graph with the model before it is accepted, on a built-in text, in a layer's memory
    max_length      tokens a generation may reach unless the caller says otherwise (default: the model's context)
    threads         how many torch computes with while folding (default: the cores this process may use)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["genai", "optimum"] = "genai"
    builder: Literal["streamed", "stock", "auto"] = "streamed"
    device: Literal["cpu", "mobile", "web"] = "cpu"
    provider: Literal["cpu", "cuda", "dml", "webgpu"] | None = None
    adapter: Literal["merged", "apart", "only"] = "merged"
    layout: Literal["genai", "transformers.js"] = "genai"
    block_size: Literal[16, 32, 64, 128] | None = None
    symmetric: bool = True
    accuracy_level: Literal[1, 2, 3, 4] = 4
    algorithm: Literal["auto", "rtn", "default", "k_quant"] = "auto"
    head: Literal["int8", "same"] = "int8"
    layers: Literal["same", "int8"] = "same"
    embeddings: Literal["quantized", "float"] = "quantized"
    check: bool = True
    max_length: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)

    @property
    def target(self) -> str:
        """The execution provider that the files are for."""
        return self.provider or _DEVICES[self.device][0]

    @property
    def block(self) -> int:
        return self.block_size or _DEVICES[self.device][1]


def parse_options(options: Mapping[str, Any]) -> OnnxOptions:
    """Check the options of a recipe. Raises `RecipeError` that names the option."""
    try:
        chosen = OnnxOptions.model_validate(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        known = ", ".join(OnnxOptions.model_fields)
        raise RecipeError(f"the ONNX option {name!r}: {fault['msg']}", do=f"known options: {known}") from None
    if chosen.backend == "optimum":
        for name in sorted(chosen.model_fields_set - _OF_OPTIMUM):
            raise RecipeError(
                f"the ONNX option {name!r} means nothing to backend: optimum",
                do="leave it out, or write backend: genai",
            )
    return chosen


def provider_of(options: OnnxOptions, type_name: str) -> str:
    """The provider that the builder is told. Its fp16 graph for CPUs fails on the second token; the one for WebGPU has
    the same inputs and runs on CPUs. Raises `RecipeError` for a type that the provider does not run."""
    if options.target not in _PROVIDERS[type_name]:
        raise RecipeError(
            f"{type_name} does not run on the execution provider {options.target}",
            do=f"write provider: {' or '.join(_PROVIDERS[type_name])}, or another type",
        )
    if options.layout == "transformers.js" and type_name == "bf16":
        raise RecipeError("transformers.js has no name for bf16 files", do="write onnx-fp16, or layout: genai")
    return "webgpu" if (options.target, type_name) == ("cpu", "fp16") else options.target


def builder_options(options: OnnxOptions, type_name: str, *, tied: bool) -> list[str]:
    """The KEY=VALUE options of onnxruntime-genai's builder. Raises `RecipeError` for what it cannot combine."""
    # A cache that ends at the window is onnxruntime-genai's own, norms inside the attention are some GPUs' own: plain
    # ONNX Runtime, which every file is tried with, has neither.
    chosen = ["hf_token=false", "hf_remote=false", "windowed_kv_cache=false", "fuse_qk_norm_gqa=false"]
    if options.adapter != "merged":
        chosen.append("fuse_qkv=false")  # each projection is a product of its own, which an adapter can change
    if type_name in ("fp32", "fp16", "bf16"):
        return chosen
    algorithm = options.algorithm if options.algorithm != "auto" else ("rtn" if tied else "default")
    chosen += [
        f"is_symmetric={str(options.symmetric).lower()}",
        f"accuracy_level={options.accuracy_level}",
        f"block_size={options.block}",
        f"algo_config={algorithm}",
    ]
    if type_name == "int8":
        return [*chosen, "shared_embeddings=false"] if tied else chosen
    _refuse(options, algorithm, tied)
    places = {"last_matmul": options.head, "mixed_layers": options.layers}
    mixed = ",".join(f"{place}:int8" for place, bits in places.items() if bits == "int8")
    chosen += [f"matmul_mixed_precision={mixed}"] if mixed else []
    if options.embeddings == "quantized":
        chosen.append("op_types_to_quantize=MatMul/Gather")
    elif tied:
        chosen.append("shared_embeddings=false")
    return chosen


def _refuse(options: OnnxOptions, algorithm: str, tied: bool) -> None:
    """What the builder takes and then does wrong: a graph that does not load, embeddings that stay as they were."""
    if options.embeddings == "float":
        return
    if tied and algorithm == "default" and (options.head == "int8" or not options.symmetric):
        other = "head: int8" if options.head == "int8" else "symmetric: false"
        raise RecipeError(
            f"the ONNX options `algorithm: default` and `{other}` do not go together with tied embeddings",
            do="write algorithm: rtn, or embeddings: float",
        )
    if not tied and algorithm != "default":
        raise RecipeError(
            f"the ONNX option `algorithm: {algorithm}` cannot quantize embeddings that the model does not tie",
            do="write algorithm: default, or embeddings: float",
        )
