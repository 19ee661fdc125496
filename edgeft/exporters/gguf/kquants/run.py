"""Rows -> the bytes of a type by a kernel; what the kernel sets aside, ggml does. Called by `quantize` and `trust`.

May run in several threads at once, each with its own rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from edgeft.exporters.gguf.kquants.formats import FORMATS, Format, Steps
from edgeft.exporters.gguf.kquants.kernels import KERNELS
from edgeft.exporters.gguf.kquants.room import WHOLE
from edgeft.exporters.gguf.kquants.source import FLOAT32, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINE = 64  # bytes: a vector that lies across two lines of the cache is read twice
_LOCAL = threading.local()
# (type, float32 [rows, width], importance or None) -> uint8 [bytes]
Exact = Callable[[str, Any, Any], Any]


def encode(name: str, rows: Rows, importance: NDArray[np.float32] | None, out: NDArray[np.uint8], exact: Exact) -> int:
    """Write the bytes of `rows` in the type `name` into `out` (contiguous, of the right size); returns how many blocks
    `exact` (ggml's quantizer) had to do."""
    form = FORMATS[name]
    importance = importance if form.weighted else None
    singles, words = (rows.data.reshape(-1), _NO_WORDS) if rows.kind == FLOAT32 else (_NOTHING, rows.data.reshape(-1))
    flat = out.reshape(-1)
    odd = np.zeros(rows.data.size // form.size, dtype=np.uint8)
    memory, starts = _memory()
    weights = _NOTHING if importance is None else importance
    tried = numerators(form.plain if importance is None else form.important)
    KERNELS[name](memory, starts, singles, words, rows.kind, weights, *tried, flat, odd)
    left = np.flatnonzero(odd)
    if left.size:
        _redo(form, rows, importance, flat, left, exact)
    return int(left.size)


def numerators(steps: tuple[Steps, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The steps of the search for sub-blocks and of the one for their scales; empty where there is none."""
    found = [row.numerators() for row in steps]
    return (*found, _NOTHING, _NOTHING)[:2]  # type: ignore[return-value]


_NOTHING = np.empty(0, dtype=np.float32)
_NO_WORDS = np.empty(0, dtype=np.uint16)


def _redo(
    form: Format,
    rows: Rows,
    importance: NDArray[np.float32] | None,
    flat: NDArray[np.uint8],
    left: NDArray[np.int64],
    exact: Exact,
) -> None:
    """Have ggml do single blocks: each is a row of its own, with its part of the importance."""
    blocks = rows.data.reshape(-1, form.size)
    target = flat.reshape(-1, form.nbytes)
    if importance is None:
        target[left] = exact(form.name, Rows(blocks[left], rows.kind).floats(), None).reshape(-1, form.nbytes)
        return
    parts = importance.reshape(-1, form.size)
    column = left % len(parts)
    for one in np.unique(column):
        here = left[column == one]
        weights = np.ascontiguousarray(parts[one])
        target[here] = exact(form.name, Rows(blocks[here], rows.kind).floats(), weights).reshape(-1, form.nbytes)


def _memory() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """This thread's working memory, aligned."""
    if not hasattr(_LOCAL, "memory"):
        room = np.empty(WHOLE + _LINE // 4, dtype=np.float32)
        first = (-room.ctypes.data % _LINE) // 4
        _LOCAL.memory = room[first : first + WHOLE], np.empty(16, dtype=np.int64)
    memory: tuple[NDArray[np.float32], NDArray[np.int64]] = _LOCAL.memory
    return memory
