"""Every error that a user can meet, with its exit code. Raised anywhere, printed only by `edgeft.cli`.

    EdgeftError                       1   a stage failed
    ├── InputError                    2   something the user gave is wrong: it names what, where, what to do
    │   ├── UsageError                    the command line
    │   ├── RecipeError                   the recipe (file:line:column)
    │   ├── DataError                     a dataset (file:line)
    │   └── ModelError                    a base model, an adapter, an artifact
    ├── MissingError                  3   an extra is not installed, or hardware is not there
    ├── JudgementError                4   a gate or a verification failed
    ├── StorageError                  1   disk full, read-only folder, damaged store
    └── Interrupted                 130   Ctrl-C or SIGTERM

Several faults found in one pass (a recipe's, a dataset's) travel together in one `Errors`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A place in a file; line and column count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


class EdgeftError(Exception):
    """One fault, told in at most three lines: what, where, what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: Location | str | Path | None = None, do: str | None = None) -> None:
        self.what = what
        self.where = where if isinstance(where, Location) or where is None else Location(str(where))
        self.do = do
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.do:
            lines.append(self.do)
        return "\n".join(lines)


class InputError(EdgeftError):
    exit_code = 2


class UsageError(InputError):
    pass


class RecipeError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class MissingError(EdgeftError):
    exit_code = 3


class JudgementError(EdgeftError):
    exit_code = 4


class StorageError(EdgeftError):
    pass


class Interrupted(EdgeftError):
    exit_code = 130

    def __init__(self, what: str = "interrupted") -> None:
        super().__init__(what, do="run the same command again to go on from here")


class Errors(EdgeftError):
    """Several faults of one pass, printed one after the other; the exit code is the first one's."""

    def __init__(self, errors: Sequence[EdgeftError]) -> None:
        if not errors:
            raise ValueError("Errors needs at least one error")
        self.errors = tuple(errors)
        super().__init__(errors[0].what)
        self.exit_code = errors[0].exit_code

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


_STORAGE = {
    errno.ENOSPC: ("the disk is full", "free some space and run again; finished artifacts are intact"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run again; finished artifacts are intact"),
    errno.EFBIG: ("the file is larger than the system allows here", "choose a file system or a limit that allows it"),
    errno.EROFS: ("the file system is read-only", "choose a writable folder"),
    errno.EACCES: ("permission denied", "choose a writable folder or mend its permissions"),
    errno.EPERM: ("operation not permitted", "choose a writable folder or mend its permissions"),
}


def storage_error(error: OSError, where: Path | str | None = None) -> StorageError | None:
    """The clear form of an OSError about storage, or None when it is about something else."""
    if error.errno not in _STORAGE:
        return None
    what, do = _STORAGE[error.errno]
    return StorageError(what, where=Location(str(error.filename or where or "")), do=do)


@contextmanager
def storage_errors(where: Path | str) -> Iterator[None]:
    """Map the operating system's storage errors to `StorageError` at a boundary that writes below `where`."""
    try:
        yield
    except OSError as error:
        mapped = storage_error(error, where)
        if mapped is None:
            raise
        raise mapped from error
