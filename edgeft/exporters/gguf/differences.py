"""What of a GGUF file is not what its source makes of it: settings one by one, tensors row by row. Called by the
`verify` stage, whose diagnosis tells a wrong conversion from what quantization costs.

The settings and weights that the file should hold are those that the exporter would write; nothing is written. Every
row of every tensor is read: a quantized row is near the row that it was made of (its relative error is the type's),
another row is not. Rows that are elsewhere in the tensor are found again, so that an exchange is named as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import parts_of
from edgeft.exporters.gguf.types import file_type
from edgeft.exporters.rows import compared
from edgeft.progress import Listener, Progress, silent
from edgeft.weights import Deferred
from edgeft.weights.gguf_file import GgufStored, open_gguf

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_IGNORED = ("general.", "quantize.", "split.", "tokenizer.chat_template.", "tokenizer.chat_templates")
_EXAMPLES = 8


def differences(source: ExportSource, path: Path, listen: Listener = silent) -> dict[str, Any]:
    """{"settings": [{"key", "wanted", "found"}], "tensors": {"read", "worst", "wrong": [{"name", "rows", "what"}]}} of
    a file (or of the first of its shards).

    `worst`: type -> largest relative error of a row. A `ModelError` when the file cannot be read.
    """
    parts = parts_of(source, file_type("f16"), None)
    wanted = {key: value for key, value, kind in parts.metadata if kind != "array" or len(value)}
    settings = list(_settings(wanted, _read_settings(path), parts.arch))
    stored: dict[str, GgufStored] = {}
    for file in _shards(path):
        stored |= open_gguf(file)
    return {"settings": settings, "tensors": _tensors(parts.tensors, stored, listen)}


def _shards(path: Path) -> list[Path]:
    match = _SHARD.search(path.name)
    if match is None:
        return [path]
    stem = path.name[: match.start()]
    return [path.with_name(f"{stem}-{number + 1:05d}-of-{match[2]}.gguf") for number in range(int(match[2]))]


def _read_settings(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    except Exception as error:  # the reader trusts the file: index, type, memory and value errors of numpy
        raise ModelError(f"this is not a whole GGUF file ({type(error).__name__}: {error})", where=path) from None


def _settings(wanted: Mapping[str, Any], found: Mapping[str, Any], arch: str) -> Iterator[dict[str, Any]]:
    """Settings that are missing, other, or not meant; what a file is called and how it was made does not count."""
    if found.get("general.architecture") != arch:
        yield {"key": "general.architecture", "wanted": arch, "found": found.get("general.architecture")}
    meant = [key for key in wanted if not key.startswith(_IGNORED)]
    further = [key for key in found if key.startswith((f"{arch}.", "tokenizer.")) and key not in wanted]
    for key in (*meant, *(key for key in further if not key.startswith(_IGNORED))):
        if key not in found:
            yield {"key": key, "wanted": _shown(wanted[key]), "found": None}
        elif key not in wanted:
            yield {"key": key, "wanted": None, "found": _shown(found[key])}
        elif not _equal(wanted[key], found[key]):
            yield {"key": key, "wanted": _shown(wanted[key]), "found": _shown(found[key])}


def _equal(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, float) or isinstance(found, float):
        return abs(float(wanted) - float(found)) <= 1e-6 * max(abs(float(wanted)), abs(float(found)))
    if isinstance(wanted, str | bytes) or not isinstance(wanted, Sequence):
        return bool(wanted == found)
    if not isinstance(found, Sequence) or len(wanted) != len(found):
        return False
    return all(_equal(_text(one), _text(other)) for one, other in zip(wanted, found, strict=True))


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _shown(value: Any) -> Any:
    """Short settings as they are (a template whole: it is compared), long lists by their length."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return f"a list of {len(value)}" if len(value) > _EXAMPLES else [_text(item) for item in value]
    return value if isinstance(value, bool | int | float) else str(value)


def _tensors(wanted: Mapping[str, Deferred], found: Mapping[str, GgufStored], listen: Listener) -> dict[str, Any]:
    wrong: list[dict[str, Any]] = []
    worst: dict[str, float] = {}
    for name in wanted:
        if name not in found:
            wrong.append({"name": name, "rows": 0, "what": "is missing"})
    for number, (name, tensor) in enumerate(found.items(), 1):
        if name not in wanted:
            wrong.append({"name": name, "rows": 0, "what": "is not part of the model"})
        elif wanted[name].shape != tensor.shape:
            wrong.append({"name": name, "rows": 0, "what": f"is {tensor.shape}, not {wanted[name].shape}"})
        else:
            entry, error = compared(wanted[name], tensor, tensor.type)
            wrong += [{"name": name, **entry}] if entry else []
            worst[tensor.type] = max(worst.get(tensor.type, 0.0), error)
        listen(Progress(number, len(found), "weight", "comparing weights", {"tensor": name}))
    return {"read": len(found), "worst": worst, "wrong": wrong}
