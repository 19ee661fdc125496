"""Checkpoints of a run: a folder each, there whole or not at all. Written by `edgeft.training.trainer`, which also
resumes.

A checkpoint is written beside its place, fsynced, described (sizes of its files) and renamed, and only then are older
ones removed: killed at any moment, the newest whole one is found. Foreign exceptions of a full disk become
`StorageError`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import storage_error

_MARK = "complete.json"
_PREFIX = "checkpoint-"
PARTIAL = "partial"


def latest(scratch: Path, settings: str) -> Path | None:
    """The newest whole checkpoint below `scratch` that was made with the same `settings` (a digest); None without one.
    Whatever else lies there of earlier runs is removed."""
    found: list[tuple[int, Path]] = []
    for path in scratch.glob(f"{_PREFIX}*"):
        number = path.name.removeprefix(_PREFIX)
        if number.isdigit() and _is_whole(path, settings):
            found.append((int(number), path))
    newest = max(found)[1] if found else None
    whole = {path for _, path in found}
    for path in [*scratch.glob(f"{_PREFIX}*"), scratch / PARTIAL]:
        if path not in whole:
            files.remove_tree(path)
    return newest


def settle(scratch: Path, name: str, settings: str, keep: int = 1) -> Path:
    """Make the checkpoint `scratch/partial/name` a whole one, in `scratch/name`; all but the newest `keep` go."""
    written = scratch / PARTIAL / name
    sizes = {relative: path.stat().st_size for relative, path in files.walk_files(written)}
    files.write_json(written / _MARK, {"settings": settings, "files": sizes})
    files.sync_tree(written)
    place = scratch / name
    files.remove_tree(place)
    written.replace(place)
    files.sync_folder(scratch)
    numbered = sorted(scratch.glob(f"{_PREFIX}*"), key=lambda path: _number(path))
    for path in numbered[:-keep]:
        files.remove_tree(path)
    return place


def _number(path: Path) -> int:
    number = path.name.removeprefix(_PREFIX)
    return int(number) if number.isdigit() else -1


def _is_whole(path: Path, settings: str) -> bool:
    try:
        mark: dict[str, Any] = files.read_json(path / _MARK)
        sizes = mark["files"]
        return mark["settings"] == settings and all(
            (path / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Map the ways in which torch and safetensors tell of a full disk to `StorageError`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, where) or error from error
    except Exception as error:
        # safetensors raises its own error with the system's text; torch's zip writer a RuntimeError without a reason.
        text = str(error)
        if "os error 28" in text or "No space left" in text or "PytorchStreamWriter failed writing" in text:
            full = storage_error(OSError(errno.ENOSPC, "no space left", str(where)))
            assert full is not None
            raise full from error
        raise
