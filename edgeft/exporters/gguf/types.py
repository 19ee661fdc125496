"""The types a GGUF file can be exported as: llama.cpp's names and numbers of them. Light: `edgeft check` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.errors import InputError
from edgeft.registry import suggestion


@dataclass(frozen=True)
class FileType:
    """`number` is llama.cpp's `llama_ftype` and `general.file_type`; `plain` the ggml type of unquantized files."""

    name: str
    number: int
    help: str
    plain: str | None = None


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
        FileType("q2_k", 10, "3.2 bits a weight, mixed"),
    )
}


def file_type(name: str) -> FileType:
    """The type of a name. An `InputError` names what there is."""
    if name not in TYPES:
        raise InputError(f"unknown GGUF type {name!r}", do=suggestion(name, TYPES))
    return TYPES[name]
