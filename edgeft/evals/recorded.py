"""What a model says on some rows, kept on disk, so that several candidates can be compared with it one after the other
and only one model is in memory at a time. Used by `edgeft.stages.merge_base`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import storage_errors
from edgeft.evals.encoded import Encoded
from edgeft.progress import Listener, Progress, silent
from edgeft.runtimes.protocol import Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = tuple[str, Encoded]


class Recorded:
    """The logits of rows that a runtime has read: one float32 file of sum(T) x V values, mapped when asked for."""

    def __init__(self, path: Path, vocab_size: int, places: dict[tuple[int, ...], int]) -> None:
        self.path, self.vocab_size, self._places = path, vocab_size, places

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """float32[T, vocab_size] of each row, in order. A `KeyError` for a row that was not recorded."""
        import numpy as np

        for ids in rows:
            offset = 4 * self._places[tuple(ids)] * self.vocab_size
            yield np.memmap(self.path, np.float32, "r", offset, (len(ids), self.vocab_size))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def fitting(rows: Sequence[Row], vocab_size: int, nbytes: int) -> list[Row]:
    """As many of the rows, spread evenly, as `nbytes` of recorded logits hold; at least one."""
    count = len(rows)
    while True:
        chosen = [rows[i * len(rows) // count] for i in range(count)]
        if count <= 1 or 4 * vocab_size * sum(len(item.ids) for _, item in chosen) <= nbytes:
            return chosen
        count = max(1, count * 3 // 4)


def record(runtime: Runtime, rows: Sequence[Row], path: Path, listen: Listener = silent) -> Recorded:
    """Read the rows with a runtime and keep its logits in `path`."""
    ordered = sorted((item.ids for _, item in rows), key=len, reverse=True)
    places: dict[tuple[int, ...], int] = {}
    at = 0
    with storage_errors(path), path.open("wb") as stream:
        for number, (ids, logits) in enumerate(zip(ordered, runtime.logits_batch(ordered), strict=True), 1):
            places[tuple(ids)] = at
            stream.write(logits.astype("float32", copy=False).tobytes())
            at += len(ids)
            listen(Progress(number, len(ordered), "row", "the trained model's logits"))
    return Recorded(path, runtime.vocab_size, places)
