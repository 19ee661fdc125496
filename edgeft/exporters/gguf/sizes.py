"""How large the file of each type would be, to the byte, before anything is built. Called by `edgeft export --sizes`.

The header is packed as it will be, llama.cpp is asked which type each tensor gets, and the rest is arithmetic. Weights
are not read: a folder with config and tokenizer alone will do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import Parts, parts_of
from edgeft.exporters.gguf.header import Header, scratch_file, write_header
from edgeft.exporters.gguf.imatrix import Imatrix, read_imatrix
from edgeft.exporters.gguf.layout import Layout, ask, in_need, prepared, shapes_of, source_types
from edgeft.exporters.gguf.types import TYPES, FileType
from edgeft.exporters.gguf.wanted import wanted_of
from edgeft.exporters.gguf.writer import shards
from edgeft.weights import Deferred, Weights

IMATRIX = Path("imatrix.gguf")  # as edgeft's own stage names it
DATASET = "train.parquet"
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Sized:
    """A type and the bytes of its file (all shards together). `imatrix`: it cannot be made without an importance
    matrix, and is sized as with one that edgeft computes. `fallbacks`: tensors that get another type than meant."""

    type: str
    bytes: int
    imatrix: bool
    fallbacks: int


class Shaped(Deferred):
    """A tensor of which only the shape is known."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        raise EdgeftError(f"the values of {self.name!r} are not on this machine")


def sizes(source: ExportSource, options: Mapping[str, Any] | None = None) -> list[Sized]:
    """Every type of the table, in its order, with the options of an export (`imatrix`, `tensor_types`, …; unquantized
    types take only `max_shard_size`)."""
    options = dict(options or {})
    weights = None if any(source.base.glob("*.safetensors")) else _hollow(source.base)
    given = read_imatrix(Path(options["imatrix"])) if options.get("imatrix") else None
    assumed = Imatrix({}, (DATASET,), 1, where=IMATRIX)
    parts = {False: parts_of(source, TYPES["f16"], None, weights)}
    parts[True] = parts_of(source, TYPES["f16"], given or assumed, weights)
    found = []
    with tempfile.TemporaryDirectory(prefix="edgeft-") as folder:
        where = Path(folder)
        heads: dict[tuple[bool, bool], int] = {}
        tensors = parts[False].tensors
        with prepared(parts[False].arch, parts[False].metadata, tensors, where) as path:
            for kind in TYPES.values():
                if kind.plain:
                    wanted = wanted_of({"max_shard_size": options.get("max_shard_size")}, kind)
                    plan, need = Layout(source_types(tensors, kind.plain)), False
                else:
                    wanted = wanted_of(options, kind)
                    plan = ask(path, kind, tensors, wanted)
                    need = bool(in_need(kind, plan.types))
                    if need and given is None:
                        plan = ask(path, kind, tensors, replace(wanted, imatrix=IMATRIX))
                has = need or (given is not None and not kind.plain)
                size = _bytes(kind, parts[has], plan, wanted.max_shard_size, has, heads, where)
                found.append(Sized(kind.name, size, need, len(plan.fallbacks)))
    return found


def _bytes(
    kind: FileType,
    parts: Parts,
    plan: Layout,
    max_shard: int | None,
    has: bool,
    heads: dict[tuple[bool, bool], int],
    folder: Path,
) -> int:
    """Bytes of the files; `heads` keeps the length of a header, which no tensor's type changes."""
    shapes = shapes_of(kind, parts.tensors)
    files = shards(Header(parts.arch, parts.metadata, shapes, plan.types), max_shard)
    if len(files) > 1:
        return sum(_head(file, folder) + file.data_bytes() for file in files)
    if (key := (bool(kind.plain), has)) not in heads:
        heads[key] = _head(files[0], folder)
    return heads[key] + files[0].data_bytes()


def _head(header: Header, folder: Path) -> int:
    with scratch_file(folder) as path:
        return write_header(path, header)


def _hollow(base: Path) -> Weights:
    from edgeft.models.hollow import parameters_of

    return {name: Shaped(name, shape, _DTYPES[dtype]) for name, (shape, dtype) in parameters_of(base).items()}
