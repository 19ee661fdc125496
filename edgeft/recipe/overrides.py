"""`--set a.b.c=value`: one key of a recipe from the command line. Called by `edgeft.recipe.load`.

The value is YAML: a number, a text, true, null, a list [a, b], a mapping {a: 1}. Sections that the recipe leaves out
are made; keys that do not exist are refused by the schema like those of the file.
"""

from __future__ import annotations

from typing import Any

from edgeft.errors import Location, RecipeError
from edgeft.recipe.tree import Key, Tree, read_text

# What a section is when an override names a key in it and the recipe leaves it out, where that is not simply empty.
_ABSENT: dict[str, dict[str, Any]] = {"merge": {"write": False}}


def apply(tree: Tree, text: str) -> None:
    """Set one value in a (normalised) tree. Raises `RecipeError` for a text that is no override."""
    name, equals, value_text = text.partition("=")
    where = Location(f"--set {text}" if len(text) <= 60 else f"--set {name}=…")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError("this is not KEY=VALUE", where=where, do="write it like: --set train.learning_rate=1e-4")
    if not value_text.strip():
        raise RecipeError("a value is missing", where=where, do="null unsets a key")
    parts = _of_phase(tree, parts)
    value = read_text(value_text, str(where), placed=False)
    holder, path = _holder(tree, parts[:-1], where)
    key = _key(holder, parts[-1], path, where)
    holder[key] = value.value
    full = (*path, key)
    tree.forget(full)
    tree.keys[full] = tree.values[full] = where
    for below, place in value.values.items():
        tree.values[full + below] = place
    for below, place in value.keys.items():
        tree.keys[full + below] = place


def _of_phase(tree: Tree, parts: list[str]) -> list[str]:
    """`train.PHASE.KEY`, the phase by name or number, as the normalised tree has it: its last phase is `train`."""
    earlier = tree.value.get("earlier_phases")
    if not earlier or parts[0] != "train" or len(parts) < 3:
        return parts
    phases = [*earlier, tree.value["train"]]
    named = {str(phase["name"]): index for index, phase in enumerate(phases) if phase.get("name")}
    index = named.get(parts[1], int(parts[1]) if parts[1].isascii() and parts[1].isdigit() else None)
    if index is None or index >= len(phases):
        return parts
    return ["train", *parts[2:]] if index == len(earlier) else ["earlier_phases", str(index), *parts[2:]]


def _holder(tree: Tree, parts: list[str], where: Location) -> tuple[Any, Key]:
    """The mapping or list that the last key is in, made where the recipe leaves it out, and its path."""
    holder: Any = tree.value
    path: Key = ()
    for part in parts:
        key = _key(holder, part, path, where)
        path = (*path, key)
        if isinstance(holder, dict) and holder.get(key) is None:
            holder[key] = dict(_ABSENT.get(part, {})) if len(path) == 1 else {}
            tree.keys[path] = tree.values[path] = where
        holder = holder[key]
        if not isinstance(holder, dict | list):
            shown = ".".join(map(str, path))
            raise RecipeError(f"{shown} is a value, not a section", where=where, do=f"write: --set {shown}=VALUE")
    return holder, path


def _key(holder: Any, part: str, path: Key, where: Location) -> str | int:
    if isinstance(holder, dict):
        return part
    shown = ".".join(map(str, path))
    if not part.isascii() or not part.isdigit() or int(part) >= len(holder):
        last = len(holder) - 1
        known = f"its entries are {shown}.0 to {shown}.{last}" if last else f"its only entry is {shown}.0"
        do = known if holder else f"write: --set {shown}=[...]"
        raise RecipeError(f"{shown} is a list without an entry {part!r}", where=where, do=do)
    return int(part)
