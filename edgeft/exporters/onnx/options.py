"""What an ONNX export can be asked for, with the defaults and why they are the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.errors import RecipeError

# type -> one-line help. fp16 is not here: ONNX Runtime's CPU kernels fail on the second token of such a graph.
TYPES: dict[str, str] = {
    "fp32": "the trained weights unrounded; the reference, and the largest",
    "int8": "8-bit weights in blocks; embeddings stay fp32",
    "int4": "4-bit weights in blocks, embeddings included; the smallest",
}


_OF_OPTIMUM = {"backend", "block_size", "accuracy_level", "max_length", "threads"}


class OnnxOptions(BaseModel):
    """Options of one export; of these, fp32 takes `max_length` and `threads` only.

    The defaults come near to what llama.cpp's q4_k_m keeps of the trained model. Measured on a model of 3 million
    parameters, int4, mean KL divergence and size: the builder's own defaults 0.0082, 2.11 MB; these 0.0057, 2.37 MB;
    with `algorithm: k_quant` and `layers: int8` 0.0018, 2.70 MB (q4_k_m: 0.0037, 1.91 MB).

    backend         "genai": onnxruntime-genai's graphs; "optimum": those of Hugging Face's optimum, which has an
                    environment of its own (see `optimum`); of the options below it takes block_size, accuracy_level,
                    max_length and threads
    builder         "streamed": weights are read, folded and quantized while the file is written, in the memory of the
                    largest; "stock": merged to disk first, then onnxruntime-genai's builder as it is (the same bytes)
    block_size      weights that share one scale
    accuracy_level  what activations are rounded to inside a quantized product: 4 = int8 (several times faster on CPUs,
                    the runtime's own default), 1 = fp32 (no rounding of activations)
    algorithm       how scales are chosen: "rtn" (round to nearest), "default" (the same by ONNX Runtime's own kernel),
                    "k_quant" (a search as in llama.cpp: nearer to the trained model, 10 times slower to export). "auto"
                    is "rtn" for tied embeddings and "default" for others: each is the one that quantizes them all
    head            bits of the last product, the most sensitive one: "int8", or "same" as the others (int4 only)
    layers          bits of the most sensitive of the other products (llama.cpp's choice): "same" or "int8" (int4 only)
    embeddings      "quantized": the table too; "float": fp32, as the library's builder leaves untied ones (int4 only)
    max_length      tokens a generation may reach unless the caller says otherwise (default: the model's context)
    threads         how many torch computes with while merging (default: the cores this process may use)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["genai", "optimum"] = "genai"
    builder: Literal["streamed", "stock"] = "streamed"
    block_size: Literal[16, 32, 64, 128] = 32
    accuracy_level: Literal[1, 2, 3, 4] = 4
    algorithm: Literal["auto", "rtn", "default", "k_quant"] = "auto"
    head: Literal["int8", "same"] = "int8"
    layers: Literal["same", "int8"] = "same"
    embeddings: Literal["quantized", "float"] = "quantized"
    max_length: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)


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


def asked(options: OnnxOptions, type_name: str) -> dict[str, Any]:
    """The options that decided a file of this type, for its facts."""
    told = set(OnnxOptions.model_fields) - {"threads", "max_length"}
    if options.backend == "optimum":
        told &= _OF_OPTIMUM
    if type_name == "fp32":
        told &= {"backend"} if options.backend == "optimum" else set()
    return options.model_dump(include=told)


def builder_options(options: OnnxOptions, type_name: str, *, tied: bool) -> list[str]:
    """The KEY=VALUE options of onnxruntime-genai's builder. Raises `RecipeError` for what it cannot combine."""
    chosen = ["hf_token=false", "hf_remote=false"]
    if type_name == "fp32":
        return chosen
    algorithm = options.algorithm if options.algorithm != "auto" else ("rtn" if tied else "default")
    chosen += [
        "is_symmetric=true",  # asymmetric int4 of a tied model is written to a file that does not load
        f"accuracy_level={options.accuracy_level}",
        f"block_size={options.block_size}",
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
    if tied and algorithm == "default" and options.head == "int8":
        raise RecipeError(
            "the ONNX options `algorithm: default` and `head: int8` do not go together with tied embeddings",
            do="write algorithm: rtn, or head: same",
        )
    if not tied and algorithm != "default":
        raise RecipeError(
            f"the ONNX option `algorithm: {algorithm}` cannot quantize embeddings that the model does not tie",
            do="write algorithm: default, or embeddings: float",
        )


def provider_of(options: OnnxOptions, type_name: str) -> str:
    return "cpu"
