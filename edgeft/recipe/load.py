"""A recipe file (and `--set` overrides) to a checked `Recipe`; every fault of one pass at once, each with its place.

Called by `edgeft.cli` and by tests. What needs the file system beyond the recipe itself is in `edgeft.recipe.check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeft.errors import EdgeftError, Errors, Location, RecipeError
from edgeft.recipe import overrides as overriding
from edgeft.recipe.consistency import inconsistencies
from edgeft.recipe.faults import faults_of
from edgeft.recipe.schema import Recipe
from edgeft.recipe.tree import Key, Tree, read_file


def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. `overrides` are `--set` texts such as "train.learning_rate=1e-4". Paths in the recipe are relative
    to its folder. Raises `RecipeError`, or `Errors` when there are several."""
    tree = read_file(Path(path))
    if tree.value is None and not overrides:
        raise RecipeError("the recipe is empty", where=str(path), do="edgeft init writes a complete one")
    if tree.value is None:
        tree.value = {}
    if not isinstance(tree.value, dict):
        raise RecipeError("a recipe is 'key: value' lines", where=tree.values[()], do="begin with: base_model: ...")
    faults = normalise(tree)
    for text in overrides:
        overriding.apply(tree, text)
        faults += normalise(tree)
    _raise(faults)
    try:
        recipe = Recipe(**tree.value)
    except ValidationError as error:
        raise _together(faults_of(error.errors(include_url=False), tree)) from None
    recipe._path = Path(path).absolute()
    recipe._locations = {".".join(map(str, key)): place for key, place in tree.values.items()}
    recipe._locations |= {
        ".".join(map(str, key)): Location(place.file, place.line, place.column + 1)  # of the text inside the quotes
        for key, place in tree.values.items()
        if key in tree.quoted and key[0] == "gate" and place.column
    }
    recipe._locations.setdefault("", Location(str(path)))
    _raise(inconsistencies(recipe))
    return recipe


def normalise(tree: Tree) -> list[RecipeError]:
    """Bring the short forms into the long one, places included: `train: [phases]`, `merge: true`, `gate: [...]`,
    `export: [...]`."""
    top = tree.value
    faults: list[RecipeError] = []
    if isinstance(top.get("train"), list):
        faults += _phases(tree, top["train"])
    if isinstance(top.get("merge"), bool):
        top["merge"] = {"write": top["merge"]}
        tree.values[("merge", "write")] = tree.values[("merge",)]
    if isinstance(top.get("gate"), list):
        top["gate"] = {"checks": top["gate"]}
        tree.move(("gate",), ("gate", "checks"))
    if isinstance(top.get("export"), list) and all(isinstance(name, str) for name in top["export"]):
        faults += _named_exports(tree, top["export"])
    for section in ("train", "verify", "report", "gate"):
        if section in top and top[section] is None:  # `train:` with nothing below it
            top[section] = {}
    if isinstance(top.get("export"), dict):
        top["export"] = {name: {} if options is None else options for name, options in top["export"].items()}
    return faults


def _phases(tree: Tree, phases: list[Any]) -> list[RecipeError]:
    """`train: [a, b]` becomes `earlier_phases: [a]` and `train: b`: what ships is the last phase's work."""
    if not phases or not all(isinstance(phase, dict) for phase in phases):
        return [RecipeError("train: has no phases", where=tree.values[("train",)], do="give a mapping of keys")]
    for index in range(len(phases) - 1):
        tree.move(("train", index), ("earlier_phases", index))
    tree.value["earlier_phases"], tree.value["train"] = phases[:-1], phases[-1]
    tree.move(("train", len(phases) - 1), ("train",))
    return []


def _named_exports(tree: Tree, names: list[str]) -> list[RecipeError]:
    faults = []
    for index, name in enumerate(names):
        place = tree.values[("export", index)]
        if name in names[:index]:
            faults.append(RecipeError(f"the export {name!r} is named twice", where=place, do="name it once"))
        tree.keys[("export", name)] = tree.values[("export", name)] = place
    tree.value["export"] = {name: {} for name in names}
    return faults


def _together(faults: Sequence[EdgeftError]) -> EdgeftError:
    ordered = sorted(faults, key=lambda one: (one.where.line, one.where.column) if one.where else (0, 0))
    return ordered[0] if len(ordered) == 1 else Errors(ordered)


def _raise(faults: Sequence[EdgeftError]) -> None:
    if faults:
        raise _together(faults)


__all__ = ["Key", "load", "normalise"]
