"""Which type each tensor gets, and in which order they stand: llama.cpp's own answer, before anything is read.

For quantized files `llama_model_quantize` is asked, in a dry run over a file that is all header (its data is a hole):
the answer is exact for every type and needs a fraction of a second. Called by `export`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgeft.errors import EdgeftError
from edgeft.exporters.gguf.ggml import dry_run
from edgeft.exporters.gguf.header import Header, Metadata, scratch_file, write_header
from edgeft.exporters.gguf.types import NEED_IMATRIX, FileType
from edgeft.exporters.gguf.wanted import Wanted, check_found
from edgeft.weights import Deferred

# "[   3/ 21] blk.0.attn_k.weight - [ 256, 128, 1, 1], type = bf16, size = 0.06 MiB -> 0.02 MiB (q4_K)"
_LINE = re.compile(
    r"^\[ *\d+/ *\d+\] +(\S+) +- \[[^\]]*\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?",
    re.MULTILINE,
)
_FLOAT32 = (
    "_norm.weight", "position_embd.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ssm_conv1d.weight",
    "shortconv.conv.weight",
)  # fmt: skip
# "warning: blk.0.attn_k.weight - ncols 96 not divisible by 256 (required for type q4_K) -> falling back to q5_0"
_FALLBACK = re.compile(
    r"^warning: (\S+) +- ncols +\d+ not divisible by +\d+ \(required for type +(\w+)\).*?-> falling back to +(\w+)",
    re.MULTILINE,
)
_SOURCE = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
_FREE = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")  # llama.cpp never asks an imatrix of them


@dataclass(frozen=True)
class Layout:
    """`types`: tensor name -> ggml type, in file order. `fallbacks`: tensor -> (the type meant, the type it got), where
    its rows do not fit the blocks of the one meant; both in lower case."""

    types: Mapping[str, str]
    fallbacks: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def source_types(tensors: Mapping[str, Deferred], matrix: str | None = None) -> dict[str, str]:
    """Types of an unquantized file: F32 for vectors, norms, positions and routers, else `matrix` (or the checkpoint's
    dtype)."""
    return {
        name: "F32" if len(tensor.shape) <= 1 or name.endswith(_FLOAT32) else matrix or _SOURCE[tensor.dtype]
        for name, tensor in tensors.items()
    }


def shapes_of(file_type: FileType, tensors: Mapping[str, Deferred]) -> dict[str, tuple[int, ...]]:
    """Shapes as the file's header has them: llama.cpp's quantizer leaves out outer dimensions of 1, its converter does
    not."""
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if file_type.plain:
        return found
    return {name: shape[1:] if len(shape) == 2 and shape[0] == 1 else shape for name, shape in found.items()}


def layout(
    file_type: FileType,
    arch: str,
    metadata: Metadata,
    tensors: Mapping[str, Deferred],
    folder: Path,
    wanted: Wanted | None = None,
) -> Layout:
    """The types of all tensors for a file type; `folder` may hold a scratch file meanwhile."""
    if file_type.plain:
        return Layout(source_types(tensors, file_type.plain))
    with prepared(arch, metadata, tensors, folder) as path:
        return ask(path, file_type, tensors, wanted or Wanted())


@contextmanager
def prepared(arch: str, metadata: Metadata, tensors: Mapping[str, Deferred], folder: Path) -> Iterator[str]:
    """The path of an unquantized file whose data is a hole, for `ask`. It has no vocabulary, which is nearly all of a
    header's bytes and which llama.cpp's choice does not look at."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    header = Header(
        arch, [row for row in metadata if not row[0].startswith("tokenizer.")], shapes, source_types(tensors)
    )
    with scratch_file(folder) as path:
        start = write_header(path, header)
        os.truncate(path, start + header.data_bytes())
        yield path


def ask(path: str, file_type: FileType, tensors: Mapping[str, Deferred], wanted: Wanted) -> Layout:
    """llama.cpp's answer about a file made by `prepared`."""
    check_found(wanted, tensors)
    text = dry_run(
        path,
        file_type.number,
        imatrix=wanted.imatrix is not None,
        tensor_types=wanted.tensor_types,
        token_embedding_type=wanted.token_embedding_type,
        output_tensor_type=wanted.output_tensor_type,
    )
    types = {match[1]: (match[3] or match[2]).upper() for match in _LINE.finditer(text)}
    if set(types) != set(tensors):
        odd = sorted(set(types) ^ set(tensors))
        raise EdgeftError(
            f"llama.cpp's dry run does not name the tensors of this model ({odd[0]!r}, {len(odd)} in all)"
        )
    fallbacks = {match[1]: (match[2].lower(), match[3].lower()) for match in _FALLBACK.finditer(text)}
    return Layout(types, fallbacks)


def in_need(file_type: FileType, types: Mapping[str, str]) -> list[str]:
    """The tensors that cannot be quantized without an importance of their own: llama.cpp's rule, and ggml's, which has
    no way at all to choose iq2_xxs, iq2_xs and iq1_s levels without one."""
    found = []
    for name, type_name in types.items():
        lower = type_name.lower()
        ruled = lower in NEED_IMATRIX or (lower == "q2_k" and file_type.name == "q2_k_s")
        if (ruled and name not in _FREE) or lower in ("iq2_xxs", "iq2_xs", "iq1_s"):
            found.append(name)
    return found
