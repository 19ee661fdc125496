"""Files that appear whole or not at all, and digests of them. The only place that fsyncs and renames."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_LFS_HEADER = b"version https://git-lfs.github.com/spec/"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_text(text: str) -> str:
    """sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(relative POSIX name, path) of each file below a folder, sorted by name."""
    found = [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()]
    yield from sorted(found)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: a temporary neighbour, fsync, rename. Without `durable` no fsync: for what may be lost
    when the machine goes down (caches)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident():x}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    write_bytes(path, text.encode("utf-8"), durable=durable)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON (indented, keys in the given order), atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Any) -> int:
    """One compact JSON object per line; returns the number of rows. Not atomic: for files in a `.partial` folder."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[Any]:
    """The rows of a JSONL file that edgeft itself wrote. (Users' files are read by `edgeft.data`, with locations.)"""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """fsync a folder's entry table (a no-op where the system cannot)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync each file below a folder and the folders themselves."""
    for _, path in walk_files(folder):
        sync_file(path)
    for path in [folder, *[path for path in folder.rglob("*") if path.is_dir()]]:
        sync_folder(path)


def remove_tree(folder: Path) -> None:
    """Remove a folder if it is there."""
    shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None


def inside(folder: Path, name: str) -> Path | None:
    """`folder / name` if that path stays below `folder` (symbolic links followed), else None."""
    root = folder.resolve()
    path = (root / name).resolve()
    return path if path.is_relative_to(root) else None


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer instead of the content it stands for."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS_HEADER)) == _LFS_HEADER


def human_size(count: float) -> str:
    """Bytes for people, decimal units: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
