"""Locks between processes, and what a live run uses. Held by the operating system, so a killed process leaves none
behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL = 0.1  # seconds between two looks at a lock that another process holds


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`. Yields whether it had to wait; `waiting` is called once when it has to."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    waited = False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not waited and waiting is not None:
                waiting()
            waited = True
            time.sleep(_POLL)
    try:
        yield waited
    finally:
        lock.release()


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold the lock file if nobody else does; yields whether it is held."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class LiveRun:
    """A run that is going on: its lock is held, and `pin` notes each artifact it relies on, so that nobody collects it.

    A pin is written while the artifact's own lock is held, and the collector looks at the pins while it holds that
    lock: an artifact is either pinned in time or gone before the run looks at it.
    """

    def __init__(self, home: Path, run: str) -> None:
        self._lock = home / "locks" / f"run-{run}.lock"
        self._pins = home / "pins" / run
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> LiveRun:
        self._stack.enter_context(locked(self._lock))
        self._pins.parent.mkdir(parents=True, exist_ok=True)
        self._pins.touch()
        return self

    def __exit__(self, *_: object) -> None:
        self._pins.unlink(missing_ok=True)
        self._stack.close()
        self._lock.unlink(missing_ok=True)

    def pin(self, entry: str) -> None:
        """Note the store entry `entry` (a folder's name) as in use."""
        with self._pins.open("a", encoding="utf-8") as stream:
            stream.write(entry + "\n")


def is_live(home: Path, run: str) -> bool:
    """Whether the run with this id is still going on."""
    lock = home / "locks" / f"run-{run}.lock"
    if not lock.exists():
        return False
    with try_locked(lock) as free:
        return not free


def pinned(home: Path) -> set[str]:
    """Store entries that live runs use. Notes of runs that are gone are removed."""
    found: set[str] = set()
    folder = home / "pins"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_live(home, path.name):
            with contextlib.suppress(FileNotFoundError):
                found.update(path.read_text(encoding="utf-8").split())
        else:
            path.unlink(missing_ok=True)
            (home / "locks" / f"run-{path.name}.lock").unlink(missing_ok=True)
    return found
