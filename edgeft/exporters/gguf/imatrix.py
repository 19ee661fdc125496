"""The file of an importance matrix: per weight matrix and input column, the sum of squared activations, and how many.

Written and read in the GGUF form of llama.cpp's imatrix tool, so that either's file serves the other; the older .dat
form is read too. Computed by `edgeft.exporters.gguf.importance`, used by `export`.

Form: `general.type` "imatrix", `imatrix.datasets`, `imatrix.chunk_count`, `imatrix.chunk_size`; per weight two float32
tensors, NAME.in_sum2 [matrices, columns] and NAME.counts [matrices, 1] (matrices: the experts, else 1).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import InputError, storage_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMS, COUNTS = ".in_sum2", ".counts"
_LONGEST_NAME = 1024  # of a tensor in a .dat file: beyond that the file is something else


@dataclass(frozen=True)
class Entry:
    """Of one weight: `sums` float32 [matrices, columns], `counts` float32 [matrices] (rows of activations)."""

    sums: NDArray[np.float32]
    counts: NDArray[np.float32]

    def means(self) -> NDArray[np.float32]:
        """The mean square per column, float32 [matrices, columns]; 1 for a matrix (expert) that saw nothing, as
        llama.cpp has it."""
        import numpy as np

        seen = self.counts[:, None] > 0
        return np.where(seen, self.sums / np.where(seen, self.counts[:, None], np.float32(1)), np.float32(1))


@dataclass(frozen=True)
class Imatrix:
    """A whole importance matrix. `datasets`: what the rows were, in words; `chunk_count`, `chunk_size`: how much."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0
    chunk_size: int = 512
    where: Path | None = field(default=None, compare=False)

    def importance(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """float32 [matrices, columns] of a weight of `shape` (…, columns); None when the weight is not in it.

        An `InputError` when it is, in another size: the matrix was computed of another model.
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        matrices = shape[0] if len(shape) > 2 else 1
        means = entry.means()
        if means.size != matrices * shape[-1]:
            raise InputError(
                f"the importance matrix has {means.size} values for {name}, the weight needs {matrices * shape[-1]}",
                where=self.where,
                do="compute it of this model",
            )
        return means.reshape(matrices, shape[-1])


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write the GGUF form, tensors in the order of their names; the same matrix gives the same bytes."""
    import gguf
    import numpy as np

    with storage_errors(path):
        writer = gguf.GGUFWriter(path, "")
        writer.kv_data[0].clear()  # it is no model: no general.architecture
        writer.add_string("general.type", "imatrix")
        writer.add_array("imatrix.datasets", list(imatrix.datasets) or ["unknown"])
        writer.add_uint32("imatrix.chunk_count", imatrix.chunk_count)
        writer.add_uint32("imatrix.chunk_size", imatrix.chunk_size)
        for name, entry in sorted(imatrix.entries.items()):
            one = len(entry.counts) == 1  # ggml knows no trailing dimension of one
            sums, counts = (entry.sums[0], entry.counts) if one else (entry.sums, entry.counts[:, None])
            writer.add_tensor(name + SUMS, np.ascontiguousarray(sums, dtype=np.float32))
            writer.add_tensor(name + COUNTS, np.ascontiguousarray(counts, dtype=np.float32))
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def read_imatrix(path: Path) -> Imatrix:
    """Read either form. An `InputError` for a file that is neither, cut short, or with values that are not finite."""
    import numpy as np

    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        found = _read_gguf(path) if magic == b"GGUF" else _read_dat(path)
    except FileNotFoundError:
        raise InputError("there is no such file", where=path, do="compute one: edgeft run with imatrix: true") from None
    except (ValueError, KeyError, IndexError, struct.error, EOFError, UnicodeDecodeError) as error:
        what = str(error) or type(error).__name__
        raise InputError(f"this is not an importance matrix ({what})", where=path) from None
    if not found.entries:
        raise InputError("this importance matrix is empty", where=path)
    for name, entry in found.entries.items():
        if not (np.isfinite(entry.sums).all() and np.isfinite(entry.counts).all()):
            raise InputError(f"the importance matrix holds NaN or infinite values ({name})", where=path)
    return found


def _read_gguf(path: Path) -> Imatrix:
    import gguf
    import numpy as np

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, MemoryError):  # numpy's words about a piece of it
        raise ValueError("the file is cut short or damaged") from None
    kind = _value(reader, "general.type")
    if kind != "imatrix":
        raise ValueError(f"its general.type is {kind!r}")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    entries = {}
    for name, tensor in tensors.items():
        if name.endswith(SUMS):
            weight = name.removesuffix(SUMS)
            if weight + COUNTS not in tensors:
                raise ValueError(f"{name} has no {COUNTS}")
            counts = np.rint(np.array(tensors[weight + COUNTS].data, dtype=np.float32)).reshape(-1)
            if not counts.size or tensor.n_elements % counts.size:
                raise ValueError(f"{name} has {tensor.n_elements} values for {counts.size} counts")
            entries[weight] = Entry(np.array(tensor.data, dtype=np.float32).reshape(counts.size, -1), counts)
    absent = [name for name in tensors if name.endswith(COUNTS) and name.removesuffix(COUNTS) not in entries]
    if absent:
        raise ValueError(f"{absent[0]} has no {SUMS}")
    return Imatrix(
        entries,
        tuple(_value(reader, "imatrix.datasets") or ()),
        int(_value(reader, "imatrix.chunk_count") or 0),
        int(_value(reader, "imatrix.chunk_size") or 512),
        path,
    )


def _value(reader: Any, key: str) -> Any:
    return reader.fields[key].contents() if key in reader.fields else None


def _read_dat(path: Path) -> Imatrix:
    """int32 count; per entry int32 length, name, int32 calls, int32 values, float32 means times calls; then, may be
    absent, int32 chunks, int32 length, the dataset's name. Little-endian."""
    import numpy as np

    stream = io.BytesIO(path.read_bytes())

    def number() -> int:
        return int(struct.unpack("<i", stream.read(4))[0])

    def text(length: int) -> str:
        if not 0 < length <= _LONGEST_NAME:
            raise ValueError(f"a name of {length} bytes")
        return stream.read(length).decode()

    entries: dict[str, Entry] = {}
    for _ in range(number()):
        name, calls, count = text(number()), number(), number()
        if count < 1:
            raise ValueError(f"{name} has {count} values")
        values = np.frombuffer(stream.read(4 * count), dtype="<f4").astype(np.float32)
        if values.size != count:
            raise EOFError("it ends too early")
        entries[name] = Entry(values[None, :], np.array([max(calls, 1)], dtype=np.float32))
    tail = stream.read(4)
    chunks = struct.unpack("<i", tail)[0] if len(tail) == 4 else 0
    tail = stream.read(4)
    names = (text(struct.unpack("<i", tail)[0]),) if len(tail) == 4 else ()
    return Imatrix(entries, names, max(chunks, 0), where=path)
