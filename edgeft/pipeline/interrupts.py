"""Ctrl-C and SIGTERM during a run: the first one stops it cleanly, the second one ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop(KeyboardInterrupt):
    """Raised in the main thread by the first signal. Not an Exception, so that no library's `except Exception` eats
    it."""


class Interrupts:
    """`requested` stays True once a signal came, also when some code swallowed the exception."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise `Stop` if a signal came before."""
        if self.requested:
            raise Stop

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(130)  # finished artifacts are safe at any moment; nothing here needs tidying
        self.requested = True
        raise Stop


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle SIGINT and SIGTERM for the time of a run. Outside the main thread it leaves signals alone."""
    state = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, state._handle) for number in numbers}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
