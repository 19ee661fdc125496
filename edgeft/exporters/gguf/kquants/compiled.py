"""`kernel`: a function compiled at its first call, and kept on disk for the next process on the same processor.

numba writes next to the source by default, where an installed package may be read-only; here it writes into `cache`.
It keys what it keeps by the processor's name and features itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba  # noqa: TID253

from edgeft.exporters.gguf.kquants import cache


def kernel(function: Callable[..., None]) -> Any:
    """Compiled without the interpreter's lock; a division by zero is what the processor makes of it, as in C."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache.folder())
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True, _nrt=False)(function)
    finally:
        numba.config.CACHE_DIR = before


def ready(dispatcher: Any) -> bool:
    """Whether a kernel needs no compiling: it is compiled in this process, or its file is there for this processor."""
    if dispatcher.signatures:
        return True
    index = dispatcher._cache._cache_file
    return bool(index._load_index())


def processor() -> str:
    """What numba compiles for: the processor's name and features."""
    from numba.core.registry import cpu_target

    return "|".join(str(part) for part in cpu_target.target_context.codegen().magic_tuple())
