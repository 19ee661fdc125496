"""The types a GGUF file can be exported as: llama.cpp's names and numbers of them. Light: `edgeft check` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.errors import InputError
from edgeft.registry import suggestion


@dataclass(frozen=True)
class FileType:
    """`number` is llama.cpp's `llama_ftype` and `general.file_type`; `plain` the ggml type of unquantized files;
    `imatrix`: llama.cpp refuses to make such a file without an importance matrix."""

    name: str
    number: int
    help: str
    plain: str | None = None
    imatrix: bool = False


TYPES: dict[str, FileType] = {
    row.name: row
    for row in (
        FileType("f32", 0, "32-bit floats", "F32"),
        FileType("f16", 1, "16-bit floats", "F16"),
        FileType("bf16", 32, "bfloat16, lossless for bfloat16 models", "BF16"),
        FileType("q8_0", 7, "8.5 bits a weight, hard to tell from f16"),
        FileType("q6_k", 18, "6.6 bits a weight"),
        FileType("q5_k_m", 17, "5.7 bits a weight, mixed"),
        FileType("q5_k_s", 16, "5.5 bits a weight"),
        FileType("q5_0", 8, "5.5 bits a weight, simple blocks"),
        FileType("q5_1", 9, "6 bits a weight, simple blocks"),
        FileType("q4_k_m", 15, "4.9 bits a weight, mixed: the usual choice"),
        FileType("q4_k_s", 14, "4.6 bits a weight"),
        FileType("q4_0", 2, "4.5 bits a weight, simple blocks"),
        FileType("q4_1", 3, "5 bits a weight, simple blocks"),
        FileType("iq4_nl", 25, "4.5 bits a weight, non-linear"),
        FileType("iq4_xs", 30, "4.3 bits a weight, non-linear"),
        FileType("q3_k_l", 13, "4.3 bits a weight, mixed"),
        FileType("q3_k_m", 12, "3.9 bits a weight, mixed"),
        FileType("q3_k_s", 11, "3.5 bits a weight"),
        FileType("iq3_m", 27, "3.7 bits a weight, non-linear, mixed"),
        FileType("iq3_s", 26, "3.4 bits a weight, non-linear"),
        FileType("iq3_xs", 22, "3.3 bits a weight, non-linear", imatrix=True),
        FileType("iq3_xxs", 23, "3.1 bits a weight, non-linear", imatrix=True),
        FileType("q2_k", 10, "3.2 bits a weight, mixed"),
        FileType("q2_k_s", 21, "2.8 bits a weight", imatrix=True),
        FileType("iq2_m", 29, "2.7 bits a weight, non-linear, mixed", imatrix=True),
        FileType("iq2_s", 28, "2.5 bits a weight, non-linear", imatrix=True),
        FileType("iq2_xs", 20, "2.3 bits a weight, non-linear", imatrix=True),
        FileType("iq2_xxs", 19, "2.1 bits a weight, non-linear", imatrix=True),
        FileType("iq1_m", 31, "1.8 bits a weight, non-linear", imatrix=True),
        FileType("iq1_s", 24, "1.6 bits a weight, non-linear", imatrix=True),
        FileType("tq2_0", 37, "2.1 bits a weight, for models trained with ternary weights"),
        FileType("tq1_0", 36, "1.7 bits a weight, for models trained with ternary weights"),
        FileType("mxfp4_moe", 38, "experts in 4.25 bits a weight (MXFP4), all else q8_0; for mixtures of experts"),
    )
}

# ggml's types of one tensor, as `tensor_types` may name them; those that no file can do without an importance matrix.
TENSOR_TYPES: tuple[str, ...] = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_0", "q5_1", "q4_k", "q4_0", "q4_1", "iq4_nl", "iq4_xs", "mxfp4",
    "q3_k", "iq3_s", "iq3_xxs", "q2_k", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "tq2_0", "tq1_0",
)  # fmt: skip
NEED_IMATRIX: tuple[str, ...] = ("iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s")


def file_type(name: str) -> FileType:
    """The type of a name. An `InputError` names what there is."""
    if name not in TYPES:
        raise InputError(f"unknown GGUF type {name!r}", do=suggestion(name, TYPES))
    return TYPES[name]
