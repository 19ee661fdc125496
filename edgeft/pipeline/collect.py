"""Garbage collection: what no build link, no recent run and no live run refers to is removed. For `edgeft runs gc`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeft import files
from edgeft.errors import storage_errors
from edgeft.pipeline.history import list_runs
from edgeft.pipeline.locks import pinned, try_locked
from edgeft.pipeline.store import OLD, PARTIAL

_DAY, _HOUR = 86_400.0, 3_600.0


@dataclass(frozen=True)
class Item:
    """Something that is (or would be) removed. `kind`: "artifact", "partial" (left by a kill) or "scratch"
    (checkpoints)."""

    path: Path
    kind: str
    bytes: int


@dataclass(frozen=True)
class Garbage:
    """What a collection removed (or, in a dry run, would remove) and what it left."""

    items: tuple[Item, ...]
    kept: int  # entries of the store that stay
    kept_bytes: int

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


def collect(root: Path, *, keep_days: float = 14, dry_run: bool = False) -> Garbage:
    """Remove from `root/.edgeft` what nothing refers to.

    Kept: what a link in `root/build` points at; what a run of the last `keep_days` days used; what is younger than
    that; what a run that is going on uses or builds. Recent runs and their checkpoints are therefore safe at any time.
    A `StorageError` when something cannot be removed.
    """
    home = root / ".edgeft"
    since = time.time() - keep_days * _DAY
    named = _linked(root) | _recent(root, since)
    items: list[Item] = []
    kept = kept_bytes = 0
    with storage_errors(home):
        for path, kind, entry in _entries(home):
            size = _collect(home, Item(path, kind, 0), entry, named, since, dry_run=dry_run)
            if size is not None:
                items.append(Item(path, kind, size))
            elif path.exists():
                kept, kept_bytes = kept + 1, kept_bytes + _size(path)
        items.extend(_temporaries(root, dry_run=dry_run))
    return Garbage(tuple(items), kept, kept_bytes)


def _entries(home: Path) -> Iterator[tuple[Path, str, str]]:
    """(path, kind, entry name) of everything in the store and the scratch folder."""
    for folder, kind in ((home / "store", "artifact"), (home / "scratch", "scratch")):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            entry = path.name.removesuffix(PARTIAL).removesuffix(OLD)
            yield path, kind if entry == path.name else "partial", entry


def _collect(home: Path, item: Item, entry: str, named: set[str], since: float, *, dry_run: bool) -> int | None:
    """Remove one entry under its lock and return its bytes; None when it stays (or is gone already)."""
    path = item.path
    with try_locked(home / "locks" / f"{entry}.lock") as free:
        if not free or not path.exists():
            return None
        if item.kind != "partial" and (entry in named or path.stat().st_mtime > since):
            return None
        if entry in pinned(home):
            return None
        size = _size(path)
        if not dry_run:
            # A rename first, so that a kill half-way leaves no half artifact under its name.
            gone = path if item.kind == "partial" else path.with_name(path.name + PARTIAL)
            if gone != path:
                files.remove_tree(gone)
                path.rename(gone)
            files.remove_tree(gone)
        return size


def _temporaries(root: Path, *, dry_run: bool) -> Iterator[Item]:
    """Files on their way to their name when a kill came; those of live runs are younger than an hour."""
    folders = (root / ".edgeft", *(root / ".edgeft").glob("*"), *(root / "build").glob("*"))
    for path in sorted(path for folder in folders for path in folder.glob(".*.tmp")):
        if path.lstat().st_mtime < time.time() - _HOUR:
            yield Item(path, "temporary", path.lstat().st_size)
            if not dry_run:
                path.unlink(missing_ok=True)


def _linked(root: Path) -> set[str]:
    """Names of the store entries that links below build/ point at."""
    links = (path for path in (root / "build").glob("*/*") if path.is_symlink())
    return {Path(path.readlink()).name for path in links}


def _recent(root: Path, since: float) -> set[str]:
    """Names of the store entries that recent runs used."""
    day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    recent = (run for run in list_runs(root) if run.started > day)
    return {entry["artifact"] for run in recent for entry in run.targets.values() if entry.get("artifact")}


def _size(path: Path) -> int:
    """Bytes below a folder, without following links."""
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
