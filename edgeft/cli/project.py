"""A recipe on the command line made ready for the pipeline: loaded, its targets derived, where its artifacts lie.

`.edgeft/` and `build/` lie in the current folder, as with make; paths in a recipe are relative to the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeft.pipeline.project import Project
    from edgeft.pipeline.stage import Target
    from edgeft.recipe import Recipe


@dataclass(frozen=True)
class Opened:
    """A loaded recipe with its targets, and what the pipeline needs to know of it."""

    recipe: Recipe
    targets: Sequence[Target]
    project: Project


def open_project(path: Path, overrides: Sequence[str] = ()) -> Opened:
    """Load a recipe. Raises `RecipeError` (or `Errors` with all of them) where it is wrong."""
    from edgeft.models import base
    from edgeft.pipeline.project import Project, RecipeInfo
    from edgeft.recipe import load
    from edgeft.stages import STAGES
    from edgeft.stages.targets import targets_of

    recipe = load(path, overrides)
    info = RecipeInfo(recipe.name, str(path), recipe.path.read_text(encoding="utf-8"), tuple(overrides))
    project = Project(Path.cwd(), info, STAGES, base, base=recipe.folder)
    return Opened(recipe, targets_of(recipe), project)
