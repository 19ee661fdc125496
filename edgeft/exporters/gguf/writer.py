"""A GGUF file written in one pass: the header first, then each tensor's bytes at its place, row chunk by row chunk.

The data streams: one thread reads and folds a few chunks ahead, others quantize, one packs the header and writes what
is finished. A file appears under its name only when it is whole. Called by `export` and `lora`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeft.errors import EdgeftError, ModelError, StorageError, storage_errors
from edgeft.exporters.gguf.ahead import ahead
from edgeft.exporters.gguf.behind import Task, behind
from edgeft.exporters.gguf.ggml import row_bytes
from edgeft.exporters.gguf.header import Header, packed, padded
from edgeft.exporters.gguf.kquants.source import Rows
from edgeft.exporters.gguf.quantize import Quantizer
from edgeft.files import human_size, sync_folder
from edgeft.progress import Listener, Progress
from edgeft.weights import Deferred

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

READ_AHEAD = 1  # row chunks, of about 16 MB, that wait to be quantized; one more is being read
IN_WORK = 4  # pieces that are being quantized or wait for it
WRITE_BEHIND = 48 << 20  # bytes that wait to be written, finished or still in work
_PIECE = 4 << 20  # values that are quantized at a time (in float32: 16 MB)
# (name, shape) -> float32 [matrices, columns], or None: how much each input column of a weight matters
Importance = Callable[[str, tuple[int, ...]], Any]


def write_file(
    path: Path,
    header: Header,
    tensors: Mapping[str, Deferred],
    *,
    quantizer: Quantizer,
    listen: Listener,
    importance: Importance | None = None,
    max_shard: int | None = None,
) -> list[Path]:
    """Write a whole GGUF file, or, when its tensors have more than `max_shard` bytes, its shards; returns the paths.

    `ModelError` for values that do not fit the type, `StorageError` for a full disk. Nothing stays behind then.
    """
    parts = shards(header, max_shard)
    paths = [shard_path(path, number, len(parts)) for number in range(len(parts))]
    partials = [one.with_name(one.name + ".partial") for one in paths]
    total = header.data_bytes()
    try:
        with storage_errors(path):
            free = shutil.disk_usage(path.parent).free
            if free < total:
                raise StorageError(
                    f"the file needs {human_size(total)}, the disk has {human_size(free)} left",
                    where=path.parent,
                    do="free some space and run again; finished artifacts are intact",
                )
            pieces = _read(header, tensors)
            with ahead(pieces, READ_AHEAD) as chunks:
                done = 0
                for part, partial in zip(parts, partials, strict=True):
                    done = _write_part(partial, part, chunks, quantizer, importance, listen, done, total)
            for partial, one in zip(partials, paths, strict=True):
                partial.replace(one)
            sync_folder(path.parent)
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    return paths


# --- shards ---------------------------------------------------------------------------------------------------------


def shards(header: Header, max_bytes: int | None) -> list[Header]:
    """The headers of the files that a file is split into, as llama.cpp's gguf-split does it: tensors in order, a new
    file before the one that would exceed `max_bytes` of data; all metadata in the first. One header when all fits."""
    if max_bytes is None or header.data_bytes() <= max_bytes:
        return [header]
    groups: list[dict[str, str]] = [{}]
    size = 0
    for name, type_name in header.types.items():
        nbytes = padded(header.nbytes(name))
        if groups[-1] and size + nbytes > max_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = type_name
        size += nbytes
    if len(groups) == 1:
        return [header]
    found = []
    for number, group in enumerate(groups):
        keys = [
            ("split.no", number, "uint16"),
            ("split.count", len(groups), "uint16"),
            ("split.tensors.count", len(header.types), "int32"),
        ]
        first = number == 0
        metadata = [*(header.metadata if first else ()), *keys]
        found.append(replace(header, arch=header.arch if first else "", metadata=metadata, types=group))
    return found


def shard_path(path: Path, number: int, count: int) -> Path:
    """NAME.gguf alone, else NAME-00001-of-0000N.gguf: the names by which llama.cpp finds the others."""
    return path if count == 1 else path.with_name(f"{path.stem}-{number + 1:05d}-of-{count:05d}{path.suffix}")


# --- the data -------------------------------------------------------------------------------------------------------


def _read(header: Header, tensors: Mapping[str, Deferred]) -> Iterator[tuple[str, torch.Tensor]]:
    """The chunks of all tensors in file order, in the checkpoint's dtype; read and folded in the thread that asks."""
    for name in header.types:
        for chunk in tensors[name].chunks():
            yield name, chunk


def _write_part(
    path: Path,
    header: Header,
    chunks: Iterator[tuple[str, torch.Tensor]],
    quantizer: Quantizer,
    importance: Importance | None,
    listen: Listener,
    done: int,
    total: int,
) -> int:
    """Write one file from the chunks of its tensors; returns the bytes of data written so far, of all files."""
    begun: deque[Callable[[], object]] = deque()
    start = 0

    def begin() -> None:
        nonlocal start
        start = stream.write(packed(header))

    with path.open("wb") as stream:
        with behind(WRITE_BEHIND) as hand:
            hand(begin, 0)  # a large vocabulary takes a while: the first tensors are quantized meanwhile
            for name, type_name in header.types.items():
                nbytes = header.nbytes(name)
                weights = importance(name, header.shapes[name]) if importance else None
                _write_tensor(stream, hand, name, nbytes, chunks, quantizer, type_name, weights, begun)
                done += padded(nbytes)
                listen(Progress(done, total, "B", "writing", {"tensor": name}))
        size = start + header.data_bytes()
        if stream.tell() != size:
            raise EdgeftError(f"the file came out {stream.tell()} bytes long instead of {size}")
        stream.flush()
        os.fsync(stream.fileno())
    return done


def _write_tensor(
    stream: BinaryIO,
    hand: Callable[[Task, int], None],
    name: str,
    nbytes: int,
    chunks: Iterator[tuple[str, torch.Tensor]],
    quantizer: Quantizer,
    type_name: str,
    weights: NDArray[np.float32] | None,
    begun: deque[Callable[[], object]],
) -> None:
    """Begin the pieces of one tensor and hand them on to be written in order. `begun`: the last pieces, of all tensors;
    a new one begins when there are fewer than `IN_WORK` before it, since the input of each is in memory."""

    def put(piece: torch.Tensor, importance: NDArray[np.float32] | None) -> int:
        while len(begun) >= IN_WORK:
            begun.popleft()()
        finished = _encoded(quantizer, name, piece, type_name, importance)
        begun.append(finished)
        size = piece.shape[0] * row_bytes(type_name, piece.shape[1])
        hand(lambda: stream.write(finished().data), size)
        return size

    written = matrix = 0
    while written < nbytes:
        found, chunk = next(chunks, (None, None))
        if found != name or chunk is None:
            break
        for rows in chunk if weights is not None and chunk.dim() > 2 else (chunk,):
            importance = None if weights is None else weights[min(matrix, len(weights) - 1)]
            matrix += 1
            for piece in _pieces(rows):
                written += put(piece, importance)
    if written != nbytes:
        raise EdgeftError(f"{name!r} came out {written} bytes long instead of {nbytes}")
    hand(lambda: stream.write(bytes(padded(nbytes) - nbytes)), 0)


def _pieces(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """Rows of the last dimension, so many at a time that a float32 copy of them is small."""
    flat = rows.reshape(-1, rows.shape[-1]) if rows.dim() else rows.reshape(1, 1)
    yield from flat.split(max(1, _PIECE // max(1, flat.shape[-1])))


def _encoded(
    quantizer: Quantizer, name: str, rows: torch.Tensor, type_name: str, importance: NDArray[np.float32] | None
) -> Callable[[], NDArray[np.uint8]]:
    """Begin to make the bytes of some rows in a ggml type, always from the checkpoint's own (rounded) values; what is
    returned waits for them."""
    import numpy as np
    import torch

    if type_name == "BF16":
        words = rows.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
        return lambda: words
    if type_name == "F16":
        half = rows.contiguous() if rows.dtype is torch.float16 else rows.float().half()
        if not bool(torch.isfinite(half).all()):
            raise ModelError(
                f"{name!r} has values beyond what 16-bit floats hold", do="export bf16 or a quantized type"
            )
        halves = half.contiguous().numpy().view(np.uint8)
        return lambda: halves
    if type_name == "F32":
        singles = rows.float().contiguous().numpy().view(np.uint8)
        return lambda: singles
    return quantizer.start(Rows.of(rows), type_name, importance, of=name)
