"""Bad recipe -> exact message: tests/golden/recipe/CASE holds recipe.yaml, expected.txt and perhaps set.txt."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeft.errors import EdgeftError, Errors
from edgeft.models import base
from edgeft.recipe import consistency_of_training, load
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


def refusals(source: Path) -> Iterator[str]:
    """The longest plain piece of each message that a module gives to `fault` or `RecipeError`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        what: ast.expr | None = None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "what":
            what = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = {"fault": 1, "RecipeError": 0}.get(node.func.id)
            what = None if place is None else node.args[place]
        if isinstance(what, ast.Constant | ast.JoinedStr):
            pieces = [part.value for part in ast.walk(what) if isinstance(part, ast.Constant)]
            yield max((str(piece) for piece in pieces), key=len)


def test_every_refusal_of_a_training_has_a_case() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in GOLDEN.glob("*/expected.txt"))
    found = list(refusals(Path(consistency_of_training.__file__)))
    assert len(found) > 25
    assert [piece for piece in found if piece not in told] == []
