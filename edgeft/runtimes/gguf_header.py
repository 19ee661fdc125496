"""What a GGUF file says it is, read from its first bytes: a model, or an adapter that goes on one. Light to import.

Format: magic, version, two 64-bit counts, then key-value pairs; `general.type` stands among the first, before arrays.
Called by `references` and `edgeft.cli.folders`.
"""

from __future__ import annotations

import struct
from pathlib import Path

_STRING = 8
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # value type -> bytes
_LOOKED_AT = 1 << 16


def is_adapter(path: Path) -> bool:
    """Whether the file's `general.type` is "adapter". False for what is no GGUF file or ends too soon: whoever opens it
    says why."""
    with path.open("rb") as stream:
        data = stream.read(_LOOKED_AT)
    try:
        return data[:4] == b"GGUF" and _general_type(data) == b"adapter"
    except struct.error:
        return False


def _general_type(data: bytes) -> bytes | None:
    at, (count,) = 24, struct.unpack_from("<Q", data, 16)
    for _ in range(min(count, 64)):
        key, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        if kind == _STRING:
            value, at = _text(data, at)
            if key == b"general.type":
                return value
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            return None
    return None


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length
