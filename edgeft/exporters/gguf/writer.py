"""A GGUF file written in one pass: the header first, then each tensor's bytes at its place, row chunk by row chunk.

The gguf package packs the header (its constants, its alignment); the data streams. A file appears under its name only
when it is whole. Called by `layout` (a header alone) and `export`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeft.errors import EdgeftError, ModelError, StorageError, storage_errors
from edgeft.exporters.gguf.ggml import Quantizer, row_bytes
from edgeft.files import human_size, sync_folder
from edgeft.progress import Listener, Progress
from edgeft.weights import Deferred

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

ALIGNMENT = 32
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
        return sum(_padded(self.nbytes(name)) for name in self.types)


def write_header(path: Path | str, header: Header) -> int:
    """Write a file's header, padded; returns the offset where the data starts."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, header.arch)
    for key, value, kind in header.metadata:
        if kind == "array" and not len(value):
            continue
        writer.add_key_value(key, value, gguf.GGUFValueType[kind.upper()])
    for name, type_name in header.types.items():
        raw = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor_info(name, header.shapes[name], np.dtype(np.float32), header.nbytes(name), raw)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    with Path(path).open("ab") as stream:
        stream.write(bytes(_padded(stream.tell()) - stream.tell()))
        return stream.tell()


def write_file(path: Path, header: Header, tensors: Mapping[str, Deferred], *, threads: int, listen: Listener) -> None:
    """Write a whole GGUF file. `ModelError` for values that do not fit the type, `StorageError` for a full disk."""
    partial = path.with_name(path.name + ".partial")
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
            start = write_header(partial, header)
            with partial.open("ab") as stream, Quantizer(threads) as quantizer:
                for name, type_name in header.types.items():
                    _write_tensor(stream, quantizer, tensors[name], type_name, header.nbytes(name))
                    listen(Progress(stream.tell() - start, total, "B", "writing", {"tensor": name}))
                if stream.tell() != start + total:
                    raise EdgeftError(f"the file came out {stream.tell()} bytes long instead of {start + total}")
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_tensor(stream: BinaryIO, quantizer: Quantizer, tensor: Deferred, type_name: str, nbytes: int) -> None:
    written = 0
    for chunk in tensor.chunks():
        written += stream.write(_encoded(quantizer, tensor.name, chunk, type_name).data)
    if written != nbytes:
        raise EdgeftError(f"{tensor.name!r} came out {written} bytes long instead of {nbytes}")
    stream.write(bytes(_padded(nbytes) - nbytes))


def _encoded(quantizer: Quantizer, name: str, chunk: torch.Tensor, type_name: str) -> NDArray[np.uint8]:
    """The bytes of some rows in a ggml type; always from the checkpoint's own (rounded) values."""
    import numpy as np
    import torch

    if type_name == "BF16":
        return chunk.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
    values = chunk.float().contiguous()
    if type_name == "F32":
        return values.numpy().view(np.uint8)
    if type_name == "F16":
        half = values.half()
        if not bool(torch.isfinite(half).all()):
            raise ModelError(
                f"{name!r} has values beyond what 16-bit floats hold", do="export bf16 or a quantized type"
            )
        return half.numpy().view(np.uint8)
    return quantizer.quantize(values.reshape(-1, values.shape[-1]).numpy(), type_name)


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT


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
