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


class OnnxOptions(BaseModel):
    """Options of one export. They change nothing for fp32, except `max_length`.

    block_size      weights that share one scale. 32 is the most accurate size that ONNX Runtime's fast CPU kernels take
    accuracy_level  what activations are rounded to inside a quantized product: 4 = int8 (several times faster on CPUs,
                    the runtime's own default), 1 = fp32 (no rounding of activations)
    algorithm       how scales are chosen: "default" (round to nearest), "rtn" or "k_quant" (a search as in llama.cpp)
    head            bits of the last product, the most sensitive one: "same" as the others or "int8"
    embeddings      "quantized": the table too (int4 only); "float": fp32, as the library's builder leaves untied ones
    max_length      tokens a generation may reach unless the caller says otherwise (default: the model's context)
    threads         how many torch computes with while merging (default: the cores this process may use)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    block_size: Literal[16, 32, 64, 128] = 32
    accuracy_level: Literal[1, 2, 3, 4] = 4
    algorithm: Literal["default", "rtn", "k_quant"] = "default"
    head: Literal["same", "int8"] = "same"
    embeddings: Literal["quantized", "float"] = "quantized"
    max_length: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)


def parse_options(options: Mapping[str, Any]) -> OnnxOptions:
    """Check the options of a recipe. Raises `RecipeError` that names the option."""
    try:
        return OnnxOptions.model_validate(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        known = ", ".join(OnnxOptions.model_fields)
        raise RecipeError(f"the ONNX option {name!r}: {fault['msg']}", do=f"known options: {known}") from None


def builder_options(options: OnnxOptions, type_name: str, *, tied: bool) -> list[str]:
    """The KEY=VALUE options of onnxruntime-genai's builder."""
    chosen = ["hf_token=false", "hf_remote=false"]
    if type_name == "fp32":
        return chosen
    chosen += [
        "is_symmetric=true",  # asymmetric int4 of a tied model is written to a file that does not load
        f"accuracy_level={options.accuracy_level}",
        f"block_size={options.block_size}",
        f"algo_config={options.algorithm}",
    ]
    if options.head == "int8" and type_name == "int4":
        chosen.append("matmul_mixed_precision=last_matmul:int8")
    if type_name == "int4" and options.embeddings == "quantized":
        chosen.append("op_types_to_quantize=MatMul/Gather")
    elif tied:
        chosen.append("shared_embeddings=false")
    return chosen
