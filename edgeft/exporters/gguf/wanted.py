"""What a user may ask of a GGUF export besides its type: read from the exporter's options, checked, said with names.

Called by `export` and `sizes`. The keys are those of `export:` entries in a recipe (edgeft/recipe/shipping.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import InputError
from edgeft.exporters.gguf.types import TENSOR_TYPES, FileType
from edgeft.registry import suggestion

_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([KMG])B$", re.IGNORECASE)
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Wanted:
    """Types of single tensors, an importance matrix, the size of shards.

    tensor_types   (pattern, type): a regular expression looked for in the tensor's name; the first that is found counts
    token_embedding_type, output_tensor_type   the type of these two
    imatrix        file of an importance matrix
    max_shard_size bytes of tensor data in one file at most (a larger tensor has a file of its own); None: one file
    """

    tensor_types: tuple[tuple[str, str], ...] = ()
    token_embedding_type: str | None = None
    output_tensor_type: str | None = None
    imatrix: Path | None = None
    max_shard_size: int | None = None

    @property
    def overrides(self) -> bool:
        """Whether any tensor's type is asked for by name."""
        return bool(self.tensor_types or self.token_embedding_type or self.output_tensor_type)


def wanted_of(options: Mapping[str, Any], kind: FileType) -> Wanted:
    """Read the options of an export. An `InputError` for types that do not exist, broken patterns, and for what an
    unquantized file cannot have (llama.cpp ignores overrides and imatrix there)."""
    pairs = options.get("tensor_types") or ()
    pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
    size = options.get("max_shard_size")
    found = Wanted(
        tuple((_pattern(str(pattern)), _tensor_type(type_name)) for pattern, type_name in pairs),
        _optional(options.get("token_embedding_type")),
        _optional(options.get("output_tensor_type")),
        Path(options["imatrix"]) if options.get("imatrix") else None,
        shard_bytes(size) if isinstance(size, str) else size,
    )
    if kind.plain and (found.overrides or found.imatrix):
        what = "an importance matrix" if found.imatrix else "types of single tensors"
        raise InputError(f"{what} means nothing in an unquantized file ({kind.name})", do="leave it out")
    return found


def shard_bytes(text: str) -> int:
    """Bytes of a size such as "2GB" or "500 MB" (decimal, as the hub's and llama.cpp's). An `InputError` otherwise."""
    match = _SIZE.match(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise InputError(f"{text!r} is not the size of a file", do="write it as 2GB or 500MB")
    return size


def check_found(wanted: Wanted, names: Collection[str]) -> None:
    """An `InputError` for a pattern that is found in no tensor's name: it would be ignored without a word."""
    for pattern, _ in wanted.tensor_types:
        if not any(re.search(pattern, name) for name in names):
            some = next((name for name in names if name.startswith("blk.")), next(iter(names), ""))
            raise InputError(f"no tensor of this model has {pattern!r} in its name", do=f"names are like {some}")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        what = f"{text!r} is not a regular expression: {error}"
        raise InputError(what, do="such as ffn_down or attn_(q|k)") from None
    return text


def _optional(name: Any) -> str | None:
    return None if name is None else _tensor_type(name)


def _tensor_type(name: Any) -> str:
    if name not in TENSOR_TYPES:
        raise InputError(f"unknown type of a tensor {name!r}", do=suggestion(str(name), TENSOR_TYPES))
    return str(name)
