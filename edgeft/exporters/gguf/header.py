"""What a GGUF file begins with: metadata, and the name, shape, type and place of every tensor.

Packed here and not by the gguf package's writer, which goes through a vocabulary of 150,000 tokens item by item and
takes four times as long; its constants are used. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
Called by `layout` and `sizes` (a header alone) and `writer`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.exporters.gguf.ggml import row_bytes, type_number

ALIGNMENT = 32
_MAGIC, _VERSION = b"GGUF", 3
_NUMBERS = {"uint8": "B", "uint16": "H", "uint32": "I", "int32": "i", "float32": "f", "bool": "?"}
Metadata = Sequence[tuple[str, Any, str]]  # key, value, kind ("uint32", "string", "array", …)


@dataclass(frozen=True)
class Header:
    """Everything of a file but its data. `types` gives each tensor's ggml type and the order of the tensors."""

    arch: str
    metadata: Metadata
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]

    def nbytes(self, name: str) -> int:
        shape = self.shapes[name]
        rows = 1
        for size in shape[:-1]:
            rows *= size
        return rows * row_bytes(self.types[name], shape[-1])

    def data_bytes(self) -> int:
        """Bytes of all tensors, each padded to the alignment."""
        return sum(padded(self.nbytes(name)) for name in self.types)


def padded(size: int) -> int:
    return size + -size % ALIGNMENT


def packed(header: Header) -> bytes:
    """A file's header, padded: the data follows. An architecture of "" and empty arrays are left out."""
    rows = [row for row in header.metadata if row[2] != "array" or len(row[1])]
    if header.arch:
        rows.insert(0, ("general.architecture", header.arch, "string"))
    parts = [_MAGIC, struct.pack("<IQQ", _VERSION, len(header.types), len(rows))]
    for key, value, kind in rows:
        parts += [_text(key), struct.pack("<I", _number(kind)), _value(value, kind)]
    at = 0
    for name, type_name in header.types.items():
        shape = header.shapes[name]
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        parts += [_text(name), sizes, struct.pack("<IQ", type_number(type_name), at)]
        at += padded(header.nbytes(name))
    whole = b"".join(parts)
    return whole + bytes(padded(len(whole)) - len(whole))


def write_header(path: Path | str, header: Header) -> int:
    """Write a file that is a header alone; returns its length, the offset where the data would start."""
    return Path(path).write_bytes(packed(header))


def _number(kind: str) -> int:
    """GGUF's number of a kind of value."""
    from gguf import GGUFValueType

    return int(GGUFValueType[kind.upper()])


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any, kind: str) -> bytes:
    if kind == "string":
        return _text(value)
    if kind != "array":
        return struct.pack("<" + _NUMBERS[kind], value)
    items = _kind_of(value)
    head = struct.pack("<IQ", _number(items), len(value))
    if items == "string":
        raws = [text.encode() for text in value]
        lengths = struct.Struct("<Q").pack
        return head + b"".join([part for raw in raws for part in (lengths(len(raw)), raw)])
    return head + struct.pack(f"<{len(value)}{_NUMBERS[items]}", *value)


def _kind_of(array: Any) -> str:
    """What the items of an array are, told by the first."""
    if isinstance(array, bytes):
        return "uint8"
    kinds = ((bool, "bool"), (int, "int32"), (float, "float32"), (str, "string"))
    return next(kind for python, kind in kinds if isinstance(array[0], python))


@contextlib.contextmanager
def scratch_file(folder: Path) -> Iterator[str]:
    """The path of a file that cannot stay behind: in memory where the system can, else in a folder that is removed."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("edgeft-gguf-header")
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        path = folder / ".header.gguf.partial"
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)
