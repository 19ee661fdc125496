"""Can the base model be given its tokens and exported as the recipe asks? Called by `edgeft check`, before hours are
spent on training.

Asks each exporter's own `check`, which reads JSON only; a base that is not on this machine yet cannot be asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from edgeft.errors import EdgeftError, RecipeError
from edgeft.exporters import EXPORTS
from edgeft.models import base, grown
from edgeft.recipe.schema import Recipe


def refusals(recipe: Recipe) -> list[EdgeftError]:
    """Added tokens that the base has, and exports that their format refuses for it, at their places in the recipe."""
    try:
        folder = base.find(recipe.base_model, relative_to=recipe.folder).folder
    except EdgeftError:
        return []  # told by `edgeft.recipe.check`
    return [*_tokens(recipe, folder), *_refused(recipe, folder)] if folder is not None else []


def _tokens(recipe: Recipe, folder: Path) -> Iterator[RecipeError]:
    if not recipe.added_tokens:
        return
    try:
        grown.check_tokens(folder, recipe.added_tokens)
    except EdgeftError as error:
        yield RecipeError(error.what, where=recipe.location_of("added_tokens"), do=error.do)


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
