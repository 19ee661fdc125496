"""Where compiled kernels and the outcome of the self-check are kept: the user's cache folder, or a temporary one.

The folder's name holds a digest of this package's source, so another version of the kernels never meets these files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """The folder for caches by convention: XDG_CACHE_HOME or ~/.cache, ~/Library/Caches, %LOCALAPPDATA%."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@functools.cache
def source_digest() -> str:
    """Digest of the kernels' source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def folder() -> Path:
    """The folder of this version of the kernels, made now. Where the user's cache cannot be written it is a temporary
    one, gone with the process: compiled code is never loaded from a place that others can write to."""
    for root in _candidates():
        path = root / "edgeft" / "kquants" / source_digest()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return path
        except OSError:
            continue
    made = tempfile.TemporaryDirectory(prefix="edgeft-kquants-", ignore_cleanup_errors=True)
    _held.append(made)
    return Path(made.name)


_held: list[tempfile.TemporaryDirectory[str]] = []  # removed when the interpreter ends


def _candidates() -> list[Path]:
    try:
        return [user_cache()]
    except RuntimeError:  # no home
        return []
