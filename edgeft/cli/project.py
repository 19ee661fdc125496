"""A recipe on the command line made ready for the pipeline: loaded, its targets derived, where its artifacts lie.

`.edgeft/` and `build/` lie in the current folder, as with make; paths in a recipe are relative to the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeft.artifact import Artifact
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


def built(opened: Opened, names: Sequence[str]) -> dict[str, Artifact]:
    """The artifacts of some targets, built now when they are not up to date. stdout stays free for what was asked
    for."""
    from edgeft.cli.console import reporter
    from edgeft.pipeline import Options, run

    with reporter(to_stderr=True) as events:
        result = run(
            opened.targets,
            opened.project,
            Options(names),
            lambda event: None if event.artifact is not None and not event.seconds else events(event),
        )
    if result.error is not None:
        raise result.error
    found = {}
    for name in names:
        done = result[name].artifact
        assert done is not None
        found[name] = done
    return found
