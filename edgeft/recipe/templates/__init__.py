"""Starter recipes with sample data, written by `edgeft init`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeft import files
from edgeft.errors import InputError, UsageError, storage_errors
from edgeft.registry import suggestion

_HERE = Path(__file__).parent
_DATA = ("data/train.jsonl", "data/validation.jsonl", "data/test.jsonl")
RECIPE = "recipe.yaml"
DEFAULT = "starter"


@dataclass(frozen=True)
class Template:
    """`recipe` is the file beside this one; `data` are the files that it names, relative to it."""

    recipe: str
    help: str
    data: tuple[str, ...] = _DATA


TEMPLATES: dict[str, Template] = {
    "starter": Template(
        "starter.yaml",
        "a small task on the built-in base model; runs on any laptop",
        (*_DATA, "data/replay.jsonl"),
    ),
    "gpu": Template("gpu.yaml", "the same task on a 0.4B base model for a GPU with 8 GB"),
}


def write_template(name: str, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a template's recipe and data into a folder (made if needed); returns what was written, the recipe first.

    Raises `UsageError` for an unknown name, `InputError` when one of the files is there and `overwrite` is not set
    (then nothing is written), `StorageError` where the folder cannot be written."""
    if name not in TEMPLATES:
        raise UsageError(f"there is no template {name!r}", do=suggestion(name, TEMPLATES))
    template = TEMPLATES[name]
    content = {RECIPE: _HERE / template.recipe} | {data: _HERE / data for data in template.data}
    there = [written for written in content if (folder / written).exists()]
    if there and not overwrite:
        do = "choose another folder, or move them away"
        raise InputError(f"{', '.join(there)} would be overwritten", where=folder, do=do)
    with storage_errors(folder):
        for written, source in content.items():
            (folder / written).parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(folder / written, source.read_bytes())
    return [folder / written for written in content]
