"""Recipes: `load(path, overrides) -> Recipe`. Light to import: no torch, no numpy."""

from __future__ import annotations

from edgeft.recipe.gates import Gate
from edgeft.recipe.load import load
from edgeft.recipe.schema import Recipe

__all__ = ["Gate", "Recipe", "load"]
