"""Which base model a folder holds, as a digest that an adapter keeps: an adapter fits the base it was trained on only.

Written by `edgeft.training` into training.json, compared by `edgeft.models.open` whenever an adapter is opened. Imports
nothing heavy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import ModelError

TRAINING = "training.json"
_SAMPLES = 64  # places of a weight file that are read
_SAMPLE_BYTES = 1 << 16


def base_digest(folder: Path) -> str:
    """sha256 in hex of config.json, tokenizer.json and the weights: files up to 4 MB whole, larger ones by their size
    and 64 evenly spaced slices of 64 kB, the header's first: a base of another training differs in nearly every
    value."""
    content = {}
    for path in sorted(folder.glob("*.safetensors")):
        content[path.name] = _sampled(path)
    for name in ("config.json", "tokenizer.json"):
        if (folder / name).is_file():
            content[name] = files.digest_file(folder / name)
    return files.digest_text(files.canonical_json(content))


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(stream.read())
        else:
            for index in range(_SAMPLES):
                stream.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def read_training(adapter: Path) -> dict[str, Any] | None:
    """An adapter's training.json, or None when another tool made the adapter. `ModelError` when it cannot be read."""
    path = adapter / TRAINING
    if not path.is_file():
        return None
    try:
        training = files.read_json(path)
    except ValueError as error:
        raise ModelError(f"training.json cannot be read ({error})", where=path) from None
    if not isinstance(training, dict):
        raise ModelError("training.json is not an object", where=path)
    return training


def is_whole_model(folder: Path) -> bool:
    """Whether a training's result is a checkpoint of its own (full fine-tuning) and no adapter."""
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()


def check_same_base(adapter: Path, base: Path) -> None:
    """A `ModelError` when the adapter's training.json names another base than the one in `base`."""
    training = read_training(adapter)
    recorded = (training or {}).get("base") or {}
    if recorded.get("digest") and recorded["digest"] != base_digest(base):
        raise ModelError(
            "the adapter was trained on another base model",
            where=adapter,
            do=f"give the base it was trained on: {recorded.get('ref', 'see its training.json')}",
        )
