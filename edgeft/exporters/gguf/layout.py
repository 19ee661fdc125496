"""Which type each tensor gets, and in which order they stand: llama.cpp's own answer, before anything is read.

For quantized files `llama_model_quantize` is asked, in a dry run over a file that is all header (its data is a hole):
the answer is exact for every type and needs a fraction of a second. Called by `export`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeft.errors import EdgeftError
from edgeft.exporters.gguf.ggml import dry_run
from edgeft.exporters.gguf.types import FileType
from edgeft.exporters.gguf.writer import Header, Metadata, scratch_file, write_header
from edgeft.weights import Deferred

# "[   3/ 21] blk.0.attn_k.weight - [ 256, 128, 1, 1], type = bf16, size = 0.06 MiB -> 0.02 MiB (q4_K)"
_LINE = re.compile(
    r"^\[ *\d+/ *\d+\] +(\S+) +- \[[^\]]*\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?",
    re.MULTILINE,
)
_FALLBACK = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_FLOAT32 = ("_norm.weight", "position_embd.weight", "ffn_gate_inp.weight", "ssm_conv1d.weight")
_SOURCE = {"F32": "F32", "F16": "F16", "BF16": "BF16"}


@dataclass(frozen=True)
class Layout:
    """`types`: tensor name -> ggml type, in file order. `fallbacks`: how many tensors got another type than meant."""

    types: Mapping[str, str]
    fallbacks: int = 0


def source_types(tensors: Mapping[str, Deferred], matrix: str | None = None) -> dict[str, str]:
    """Types of an unquantized file: F32 for vectors, norms, positions and routers, else `matrix` (or the checkpoint's
    dtype)."""
    return {
        name: "F32" if len(tensor.shape) <= 1 or name.endswith(_FLOAT32) else matrix or _SOURCE[tensor.dtype]
        for name, tensor in tensors.items()
    }


def layout(file_type: FileType, arch: str, metadata: Metadata, tensors: Mapping[str, Deferred], folder: Path) -> Layout:
    """The types of all tensors for a file type; `folder` may hold a scratch file meanwhile."""
    if file_type.plain:
        return Layout(source_types(tensors, file_type.plain))
    header = Header(arch, metadata, {name: tensor.shape for name, tensor in tensors.items()}, source_types(tensors))
    with scratch_file(folder) as path:
        start = write_header(path, header)
        os.truncate(path, start + header.data_bytes())
        text = dry_run(path, file_type.number)
    types = {match[1]: (match[3] or match[2]).upper() for match in _LINE.finditer(text)}
    if set(types) != set(tensors):
        odd = sorted(set(types) ^ set(tensors))
        raise EdgeftError(
            f"llama.cpp's dry run does not name the tensors of this model ({odd[0]!r}, {len(odd)} in all)"
        )
    fallback = _FALLBACK.search(text)
    return Layout(types, int(fallback[1]) if fallback else 0)
