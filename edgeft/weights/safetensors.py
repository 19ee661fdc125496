"""safetensors files, read and written one tensor at a time: the format of https://github.com/huggingface/safetensors.

A file is 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__": {...}}, the data.
Reading uses plain reads of the rows wanted (no mapping: what is read is what is resident). Used by `checkpoint`,
`adapter` and the exporter of merged checkpoints.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeft.errors import ModelError
from edgeft.files import is_lfs_pointer
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import SIZES, torch_dtype

if TYPE_CHECKING:
    import torch

_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_RANK = 8


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a file by name (in the order of their data) and its metadata, checked against the file's size.

    Raises `ModelError` for a missing, truncated or absurd file: nothing the header says is trusted.
    """
    if not path.is_file():
        raise ModelError("the weights file is not there", where=path)
    if is_lfs_pointer(path):
        raise ModelError("this is a Git LFS pointer, not the weights", where=path, do="run: git lfs pull")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged(path, f"the header says it is {length} bytes long, the file has {size}")
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"the header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _damaged(path, "the header is not a table")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _damaged(path, "the header's metadata is not a table")
    data = 8 + length
    entries = [_entry(path, name, entry, data, size) for name, entry in header.items()]
    entries.sort(key=lambda item: (item[1].offset, item[1].nbytes))
    _check_layout(path, entries, data, size)
    return dict(entries), {str(key): str(value) for key, value in metadata.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands in it twice")
    return table


def _entry(path: Path, name: str, entry: Any, data: int, size: int) -> tuple[str, Entry]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"the header's entry of {name[:200]!r} is not complete") from None
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) or len(shape) > _MAX_RANK:
        raise _damaged(path, f"the header's numbers for {name[:200]!r} are absurd")
    if dtype not in SIZES:
        raise ModelError(
            f"the tensor {name[:200]!r} has the dtype {str(dtype)[:40]}, which edgeft does not know", where=path
        )
    needed = math.prod(shape) * SIZES[dtype]
    if end - begin != needed:
        raise _damaged(path, f"{name[:200]!r} has {end - begin} bytes of data, its shape needs {needed}")
    if data + end > size:
        raise _damaged(path, f"{name[:200]!r} ends at byte {data + end}, the file has {size}")
    return name, Entry(dtype, tuple(shape), data + begin)


def _check_layout(path: Path, entries: list[tuple[str, Entry]], data: int, size: int) -> None:
    """Tensors follow each other without gaps or overlaps, up to the end of the file."""
    at = data
    for name, entry in entries:
        if entry.offset != at:
            kind = "overlaps the one before it" if entry.offset < at else "leaves a hole before it"
            raise _damaged(path, f"the data of {name[:200]!r} {kind}")
        at += entry.nbytes
    if at != size:
        raise _damaged(path, f"the header accounts for {at} bytes, the file has {size}")


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"the safetensors file is damaged: {what}", where=path, do="copy or download it again")


class Stored(Deferred):
    """A tensor of a safetensors file."""

    def __init__(self, name: str, path: Path, entry: Entry) -> None:
        self.name, self.path, self.entry = name, path, entry
        self.shape, self.dtype = entry.shape, entry.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        step = rows or self.rows_for()
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        row_bytes = self.nbytes // max(1, self.n_rows)
        for at in range(start, stop, step):
            count = min(step, stop - at)
            yield self._values(self.entry.offset + at * row_bytes, count * row_bytes, count)

    def _values(self, offset: int, nbytes: int, rows: int) -> torch.Tensor:
        import torch

        shape = (rows, *self.shape[1:]) if self.shape else ()
        if nbytes == 0:
            return torch.empty(shape, dtype=torch_dtype(self.dtype))
        buffer = torch.empty(nbytes, dtype=torch.uint8)  # not a bytearray: that would be filled with zeros first
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            if not _fill(stream, buffer.numpy().data):
                raise _damaged(self.path, f"it ends inside {self.name!r}")
        return buffer.view(torch_dtype(self.dtype)).reshape(shape)


def _fill(stream: Any, buffer: bytearray) -> bool:
    """Read until the buffer is full; a single read gives at most 2 GB."""
    view, at = memoryview(buffer), 0
    while at < len(buffer):
        count = stream.readinto(view[at:])
        if not count:
            return False
        at += count
    return True


def open_file(path: Path) -> dict[str, Deferred]:
    """The tensors of one file, deferred."""
    return {name: Stored(name, path, entry) for name, entry in read_header(path)[0].items()}


def write_header(stream: BinaryIO, tensors: Mapping[str, Deferred], metadata: Mapping[str, str]) -> None:
    """Write the header for tensors that follow in the given order; as the safetensors library, padded to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    stream.write(struct.pack("<Q", len(raw)) + raw)


def raw_bytes(values: torch.Tensor) -> memoryview:
    """The bytes of a CPU tensor, without a copy when it is contiguous."""
    import torch

    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data
