"""Content digests of what lies outside the store: files, folders, base models; and a cache, so that bytes are read
once.

The cache maps (real path, size, modification time, inode) to a sha256. It is only ever a saving of time: lost or
damaged, it is built again; several runs may write it at once, the last one wins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import datafiles, files
from edgeft.artifact import MANIFEST
from edgeft.errors import InputError, ModelError
from edgeft.pipeline.project import Models
from edgeft.pipeline.stage import Source

_LAYOUT = 1
_MOST = 20_000  # entries kept; above it, those whose file is gone are dropped
_RACY_NS = 2_000_000_000  # a file this young may change again within the clock's grain: hash it, do not remember it
# What decides how a base model behaves: weights, settings, tokenizer, template. Not its README, not its licence.
_MODEL_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt")


class DigestCache:
    """sha256 of files, remembered in one JSON file. `save` writes it when something new was learnt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._new: dict[str, list[Any]] = {}

    def digest(self, path: Path) -> str:
        """sha256 of a file; read only when its size, time or inode are not those remembered. OSErrors pass through."""
        real = path.resolve()
        key, stat = str(real), real.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._new.get(key) or self._known.get(key)
        if known is not None and known[:3] == mark:
            return str(known[3])
        started = time.time_ns()
        digest = files.digest_file(real)
        if stat.st_mtime_ns < started - _RACY_NS:
            self._new[key] = [*mark, digest]
        return digest

    def learn(self, path: Path, digest: str) -> None:
        """Remember the digest of a file that nobody will change any more (an artifact's)."""
        real = path.resolve()
        stat = real.stat()
        self._new[str(real)] = [stat.st_size, stat.st_mtime_ns, stat.st_ino, digest]

    def save(self) -> None:
        """Merge what is new into the file. Best effort: where it cannot be written, nothing is lost but time."""
        if not self._new:
            return
        merged = {**_read(self._path), **self._new}
        if len(merged) > _MOST:
            merged = {name: entry for name, entry in merged.items() if Path(name).exists()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"layout": _LAYOUT, "files": merged}, separators=(",", ":"))
            files.write_text(self._path, text, durable=False)
        except OSError:
            return
        self._known, self._new = merged, {}


def _read(path: Path) -> dict[str, list[Any]]:
    """The cache file's entries; nothing when it is absent, damaged or of another layout."""
    try:
        raw = json.loads(path.read_bytes())
        if raw["layout"] != _LAYOUT:
            return {}
        return {name: entry for name, entry in raw["files"].items() if _is_entry(entry)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 4
        and all(isinstance(number, int) for number in entry[:3])
        and isinstance(entry[3], str)
        and len(entry[3]) == 64
    )


@dataclass(frozen=True)
class SourceDigest:
    """A source's content. `digest` is None for a model that must be downloaded or made first (`comes`); `files` only
    for folders."""

    source: Source
    digest: str | None
    files: Mapping[str, str] = field(default_factory=dict)
    comes: str = "downloaded"

    def component(self) -> dict[str, Any]:
        """The form that a fingerprint keeps."""
        entry: dict[str, Any] = {"kind": self.source.kind, "ref": self.source.ref, "digest": self.digest}
        if self.files:
            entry["files"] = dict(self.files)
        return entry


def source_path(source: Source, base: Path) -> Path:
    """Where a "file" or "folder" source lies; relative ones below `base`."""
    return base / Path(source.ref).expanduser()


def digest_source(source: Source, *, base: Path, models: Models, cache: DigestCache) -> SourceDigest:
    """The content digest of a source. An `InputError` (a `ModelError` for models) when it is not there or
    unreadable."""
    try:
        if source.kind == "file":
            return _digest_file(source, source_path(source, base), cache)
        if source.kind == "rows":
            return _digest_rows(source, base, cache)
        if source.kind == "folder":
            return _digest_folder(source, source_path(source, base), cache)
        if source.kind == "model":
            return _digest_model(source, base, models, cache)
    except PermissionError as error:
        raise InputError("permission denied", where=error.filename or source.ref, do="make it readable") from None
    except FileNotFoundError as error:
        raise InputError("it vanished while it was read", where=error.filename or source.ref) from None
    raise ValueError(f"unknown source kind {source.kind!r}")


def _digest_file(source: Source, path: Path, cache: DigestCache) -> SourceDigest:
    if path.is_dir():
        raise InputError("this is a folder, not a file", where=path)
    if not path.exists():
        raise InputError("there is no such file", where=path, do="check the path; relative ones start at the recipe")
    return SourceDigest(source, cache.digest(path))


def _digest_rows(source: Source, base: Path, cache: DigestCache) -> SourceDigest:
    """What a dataset's path names: a file as such, a glob or a folder by its data files, a hub id by its commit."""
    found = datafiles.find(source.ref, relative_to=base)
    if found.path is None:
        return SourceDigest(source, None)
    if found.kind == "file":
        return _digest_file(source, found.path, cache)
    if found.revision is not None:
        return SourceDigest(source, files.digest_text(f"hub-dataset:{source.ref.partition('@')[0]}@{found.revision}"))
    return _digest_files(source, datafiles.every_file(found.path), cache)


def _digest_folder(source: Source, path: Path, cache: DigestCache) -> SourceDigest:
    if not path.is_dir():
        raise InputError("there is no such folder", where=path, do="check the path; relative ones start at the recipe")
    found = [
        (name, file)
        for name, file in files.walk_files(path)
        if not any(part.startswith(".") for part in name.split("/"))
    ]
    return _digest_files(source, found, cache)


def _digest_model(source: Source, base: Path, models: Models, cache: DigestCache) -> SourceDigest:
    """A builtin or a folder by the content of the files that matter, a hub id by its commit."""
    found = models.find(source.ref, relative_to=base)
    if found.kind == "derived":
        return SourceDigest(source, None, comes="made")
    if found.kind == "hub":
        if found.folder is None or found.revision is None:
            return SourceDigest(source, None)
        name = source.ref.partition("@")[0]
        return SourceDigest(source, files.digest_text(f"hub:{name}@{found.revision}"))
    if found.folder is None or not found.folder.is_dir():
        raise ModelError("the base model folder is not there", where=source.ref)
    names = {path for pattern in _MODEL_FILES for path in found.folder.glob(pattern) if path.is_file()}
    chosen = sorted((path.name, path) for path in names if path.name != MANIFEST)
    if not chosen:
        raise ModelError("the base model folder holds no model", where=found.folder)
    return _digest_files(source, chosen, cache)


def _digest_files(source: Source, found: Iterable[tuple[str, Path]], cache: DigestCache) -> SourceDigest:
    digests = {name: cache.digest(path) for name, path in found}
    return SourceDigest(source, files.digest_text(files.canonical_json(digests)), digests)
