"""What a reference names: a base model, an adapter, a merged model, a GGUF file or an ONNX folder. Light to import.

Used by `edgeft.runtimes.open_runtime`. A folder says what it is by its files; an artifact by its `artifact.json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from edgeft import artifact
from edgeft.errors import ModelError
from edgeft.files import read_json
from edgeft.models import base as base_models
from edgeft.models.heads import REWARD, labels_of
from edgeft.runtimes.gguf_header import is_adapter

WHAT_OPENS = "give a base model, an adapter, a merged model, a .gguf file, an ONNX folder, or a link to one in build/"
LABELS = "labels.json"  # of an exported classifier
_SHARD = re.compile(r"^(.+)-00001-of-(\d{5})\.gguf$")
_FILE_SUFFIXES = (".gguf", ".onnx", ".safetensors", ".bin", ".pt", ".data")


@dataclass(frozen=True)
class Found:
    """A reference taken apart. `path`: a folder ("hf", "adapter", "onnx") or a file ("gguf", "lora")."""

    kind: str
    path: Path
    facts: dict[str, object] | None = None  # of an artifact


def locate(reference: str | Path) -> Found:
    """What a reference names. Raises `ModelError` that says what was found instead; a hub id may be downloaded."""
    text = str(reference)
    path = Path(text).expanduser()
    if not text.startswith("builtin:"):
        if path.is_dir():
            return _of_folder(path.resolve())
        if path.is_file():
            return _of_file(path.resolve())
        if path.is_symlink():
            raise ModelError("the link leads nowhere", where=path, do="build its target again: edgeft run RECIPE")
        if len(path.parts) > 2 or path.is_absolute() or text.startswith((".", "~")) or path.suffix in _FILE_SUFFIXES:
            raise ModelError("there is no file or folder with this name", where=path, do=WHAT_OPENS)
    return Found("hf", base_models.resolve(text))


def has_head(found: Found) -> bool:
    """Whether it ends in a classification head: it gives labels and writes no answers."""
    if found.kind == "onnx":
        return (found.path / LABELS).is_file()
    return found.kind in ("adapter", "hf") and labels_of(found.path) is not None


def is_reward(found: Found) -> bool:
    """Whether it is an adapter whose head values answers (`objective: reward`)."""
    return found.kind == "adapter" and labels_of(found.path) == REWARD


def _of_file(path: Path) -> Found:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if path.suffix == ".gguf" or magic == b"GGUF":
        return Found("lora" if is_adapter(path) else "gguf", path)
    if path.suffix in (".onnx", ".safetensors") or path.name in ("config.json", "genai_config.json", artifact.MANIFEST):
        raise ModelError("this is one file of a model", where=path, do=f"give its folder: {path.parent}")
    raise ModelError("this file is not a model", where=path, do=WHAT_OPENS)


def _of_folder(folder: Path) -> Found:
    if artifact.is_artifact(folder):
        return _of_artifact(folder)
    if (folder / "adapter_config.json").is_file():
        return Found("adapter", folder)
    if (folder / "genai_config.json").is_file() or ((folder / LABELS).is_file() and any(folder.glob("*.onnx"))):
        return Found("onnx", folder)
    if (folder / "config.json").is_file() and not any(folder.glob("*.onnx")):
        base_models.check(base_models.Base(str(folder), "folder", folder))
        return Found("hf", folder)
    files = sorted(folder.glob("*.gguf"))
    if files:
        return _of_ggufs(files, folder)
    if any(folder.glob("*.onnx")):
        raise ModelError(
            "the folder has an ONNX graph but no genai_config.json, so it does not say how to run it",
            where=folder,
            do="export it with edgeft, or with onnxruntime-genai's model builder",
        )
    names = sorted(path.name for path in folder.iterdir())[:4]
    found = f"it holds {', '.join(names)}" if names else "it is empty"
    raise ModelError(f"this folder is not a model: {found}", where=folder, do=WHAT_OPENS)


def _of_artifact(folder: Path) -> Found:
    found = artifact.load(folder)
    facts = dict(found.facts)
    if found.kind in ("gguf", "lora"):
        return replace(_of_ggufs(sorted(folder.glob("*.gguf")), folder), facts=facts)
    if found.kind == "model":
        base_models.check(base_models.Base(str(folder), "folder", folder))
    kinds = {"adapter": "adapter", "onnx": "onnx", "model": "hf"}
    if found.kind not in kinds:
        raise ModelError(f"this is a {found.kind} artifact, which cannot answer", where=folder, do=WHAT_OPENS)
    return Found(kinds[found.kind], folder, facts)


def _of_ggufs(files: list[Path], folder: Path) -> Found:
    """One model; or one adapter, with or without the model that it goes on."""
    adapters = [path for path in files if is_adapter(path)]
    if len(adapters) == 1 and len(files) <= 2:
        return Found("lora", adapters[0])
    return Found("gguf", _only_gguf(files, folder))


def base_gguf(found: Found, base: str | Path | None) -> Path:
    """The GGUF model for an adapter as GGUF: the one named, else the only other one in its folder."""
    if base is not None:
        given = locate(base)
        if given.kind != "gguf":
            raise ModelError(
                "an adapter as GGUF goes on a GGUF file, and this is none",
                where=base,
                do="make one: edgeft export --base MODEL --type gguf-f16 --out FOLDER",
            )
        return given.path
    others = [path for path in sorted(found.path.parent.glob("*.gguf")) if not is_adapter(path)]
    if len(others) != 1:
        raise ModelError(
            "this is an adapter as GGUF: it goes on a GGUF file of its base, and none lies beside it",
            where=found.path,
            do="name it: --base FILE.gguf; its README.md says how to make it",
        )
    return others[0]


def _only_gguf(files: list[Path], folder: Path) -> Path:
    """The one file, or the first of the shards of one: llama.cpp finds the others by their names."""
    match = _SHARD.match(files[0].name) if files else None
    if match and [path.name for path in files] == [
        f"{match[1]}-{number + 1:05d}-of-{match[2]}.gguf" for number in range(int(match[2]))
    ]:
        return files[0]
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise ModelError(
            f"one .gguf file is expected, found {len(files)} ({names})", where=folder, do="give the file itself"
        )
    return files[0]


def base_of_adapter(folder: Path) -> str:
    """The base model reference that an adapter names: `training.json` first, then `adapter_config.json`."""
    for name, key in (("training.json", "base"), ("adapter_config.json", "base_model_name_or_path")):
        file = folder / name
        if not file.is_file():
            continue
        try:
            content = read_json(file)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"not valid JSON ({error})", where=file) from None
        value = content.get(key) if isinstance(content, dict) else None
        value = value.get("ref") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            return value
    raise ModelError(
        "the adapter does not say which base model it belongs to", where=folder, do="name it: --base MODEL"
    )
