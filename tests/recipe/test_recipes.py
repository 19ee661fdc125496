"""Every recipe in recipes/ loads, its files are there, and its sizes can be told offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.models import base
from edgeft.models.shapes import shape_of
from edgeft.recipe import load
from edgeft.recipe.check import check

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_there_are_some() -> None:
    assert {"quickstart", "llama-3.2-1b-12gb"} <= {path.stem for path in RECIPES}
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_is_right(path: Path) -> None:
    recipe = load(path)
    assert check(recipe, base) == []
    assert shape_of(recipe.base_model, relative_to=recipe.folder) is not None
    assert recipe.gates
    assert recipe.export or recipe.has_head
