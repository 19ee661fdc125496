"""Can the base model be exported as the recipe asks? Called by `edgeft check`, before hours are spent on training.

Asks each exporter's own `check`, which reads JSON only; a base that is not on this machine yet cannot be asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from edgeft.errors import EdgeftError, RecipeError
from edgeft.exporters import EXPORTS
from edgeft.models import base
from edgeft.recipe.schema import Recipe


def refusals(recipe: Recipe) -> list[EdgeftError]:
    """Every export of a recipe that its format refuses for this base, at its place in the recipe."""
    try:
        folder = base.find(recipe.base_model, relative_to=recipe.folder).folder
    except EdgeftError:
        return []  # told by `edgeft.recipe.check`
    return list(_refused(recipe, folder)) if folder is not None else []


def _refused(recipe: Recipe, folder: Path) -> Iterator[RecipeError]:
    for name, options in recipe.export.items():
        format_, _, type_ = name.partition("-")
        exporter = importlib.import_module(EXPORTS[format_].target.partition(":")[0])
        try:
            head = {"labels": True} if recipe.has_head else {}
            exporter.check(folder, type_, options.model_dump(exclude_none=True), **head)
        except EdgeftError as error:
            where = recipe.location_of(f"export.{name}")
            yield RecipeError(f"{name} cannot be made of {recipe.base_model}: {error.what}", where=where, do=error.do)
