"""Bad recipe -> exact message: tests/golden/recipe/CASE holds recipe.yaml, expected.txt and perhaps set.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import EdgeftError, Errors
from edgeft.models import base
from edgeft.recipe import load
from edgeft.recipe.check import check

GOLDEN = Path(__file__).parents[1] / "golden" / "recipe"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/recipe.yaml"))


def message(folder: Path) -> str:
    """What edgeft says about the recipe in a folder, seen from that folder."""
    overrides = (folder / "set.txt").read_text().splitlines() if (folder / "set.txt").exists() else []
    try:
        faults = check(load("recipe.yaml", overrides), base)
        return str(Errors(faults)) if faults else ""
    except EdgeftError as error:
        return str(error) if error.exit_code == 2 else f"exit code {error.exit_code}: {error}"


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / case)
    assert message(GOLDEN / case) + "\n" == (GOLDEN / case / "expected.txt").read_text()


def test_the_cases_are_found() -> None:
    assert len(CASES) > 30
