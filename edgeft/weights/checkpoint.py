"""A Hugging Face checkpoint folder as `Weights`: one safetensors file, or shards and their index. Nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from edgeft.errors import ModelError
from edgeft.weights.deferred import Deferred
from edgeft.weights.safetensors import open_file

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json. A `ModelError` when it is not there or not a JSON table."""
    return read_table(folder / "config.json")


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that holds a table."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("the file is not there", where=path) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"this is not JSON ({error})", where=path) from None
    if not isinstance(table, dict):
        raise ModelError("this JSON file does not hold a table", where=path)
    return table


def shards(folder: Path) -> dict[str, list[str] | None]:
    """The checkpoint's weight files by name -> the tensor names the index gives each (None: there is no index)."""
    if (folder / INDEX).is_file():
        return dict(_from_index(folder))
    if (folder / SINGLE).is_file():
        return {SINGLE: None}
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(found) == 1:
        return {found[0]: None}
    if found:
        raise ModelError(f"{len(found)} safetensors files and no {INDEX} that says which is which", where=folder)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"the checkpoint is a pickle ({pickles[0]}), which can run code when it is opened",
            where=folder,
            do="use a safetensors copy, or convert it where you trust it: model.save_pretrained(folder)",
        )
    raise ModelError("there are no *.safetensors weights", where=folder)


def _from_index(folder: Path) -> list[tuple[str, list[str]]]:
    table = read_table(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ModelError("the index has no weight_map", where=folder / INDEX)
    by_file: dict[str, list[str]] = {}
    for name, shard in table.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise ModelError(
                f"the index sends {name!r} to {str(shard)[:200]!r}, not a safetensors file", where=folder / INDEX
            )
        by_file.setdefault(shard, []).append(name)
    return sorted(by_file.items())


def shard_path(folder: Path, name: str) -> Path:
    """The path of a weight file; refused when it leads out of the folder (in the hub's cache: the repository)."""
    path = folder / name
    if len(PurePosixPath(name).parts) != 1 or "\\" in name or name in ("..", "."):
        raise ModelError(f"a weight file with a path in its name: {name[:200]!r}", where=folder)
    if path.is_symlink():
        target = path.resolve()
        home = folder.resolve()
        # In the hub's cache snapshots/COMMIT/x links to ../../blobs/HASH.
        allowed = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
        if not any(target.is_relative_to(place) for place in allowed):
            raise ModelError("this weight file is a link that leads out of its folder", where=path)
    return path


def open_checkpoint(folder: Path) -> dict[str, Deferred]:
    """All tensors of a checkpoint by name, in the order of its files. Headers are read and checked now, no values."""
    found: dict[str, Deferred] = {}
    for file, names in shards(folder).items():
        path = shard_path(folder, file)
        if not path.is_file():
            raise ModelError(
                f"the shard {file} is missing", where=folder, do="copy or download the whole checkpoint again"
            )
        tensors = open_file(path)
        if names is not None:
            absent = sorted(set(names) - set(tensors))
            if absent:
                raise ModelError(f"the index promises {absent[0]!r} here, the file has no such tensor", where=path)
            tensors = {name: tensor for name, tensor in tensors.items() if name in set(names)}
        found.update(tensors)
    if not found:
        raise ModelError("the checkpoint has no tensors", where=folder)
    return found
