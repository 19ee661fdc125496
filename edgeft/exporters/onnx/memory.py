"""Memory that is free inside the process, given back to the system. Called by `decoder` between two steps."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Collect what nothing refers to, and let glibc return free pages (elsewhere: only the first)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
