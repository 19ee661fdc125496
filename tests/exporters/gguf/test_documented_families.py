"""docs/families.md cannot lie: its table is that of FAMILIES, and every family has a model in the tests."""

from __future__ import annotations

import re
from pathlib import Path

from edgeft.exporters.gguf.families import FAMILIES
from tests.exporters.gguf.families_made import MODELS

PAGE = Path(__file__).parents[3] / "docs" / "families.md"
ROW = re.compile(r"^\| `(\w+)` \| `([\w-]+)` \| (\S.*) \|$", re.MULTILINE)


def test_the_table_is_that_of_families() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [(name, arch) for name, arch, _ in rows] == [(name, row.load().ARCH) for name, row in FAMILIES.items()]
    assert list(FAMILIES) == sorted(FAMILIES)


def test_every_family_has_a_model_in_the_tests() -> None:
    assert {row.model for row in MODELS.values()} == set(FAMILIES)


def test_every_module_is_in_the_table() -> None:
    shared = {"decoder", "experts", "nested", "rearranged", "rope", "__init__"}
    folder = Path(__file__).parents[3] / "edgeft" / "exporters" / "gguf" / "families"
    modules = {path.stem for path in folder.glob("*.py")} - shared
    assert modules == {row.target.rpartition(".")[2] for row in FAMILIES.values()}
