"""Python's garbage collector, out of the way while a file is made. Called by `export`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection inside. A vocabulary is half a million objects, and each new generation goes through all of them:
    that is a third of the time of reading it. What an export leaves in circles is a few closures."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
