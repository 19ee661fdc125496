"""The task recipes learn on the packaged base: one of each path is run whole, and all rows are what the tool writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.recipe import load
from tools import make_tasks, tasks_table

ROOT = Path(__file__).parents[2]


def test_the_rows_are_those_that_the_tool_writes() -> None:
    for name, content in make_tasks.files().items():
        assert (make_tasks.FOLDER / name).read_text(encoding="utf-8") == content, name


def test_no_test_row_asks_what_training_asks() -> None:
    for task in make_tasks.TASKS:
        asked = {split: {_asked(row) for row in make_tasks.rows(task, split)} for split in make_tasks.SIZES}
        assert not asked["test"] & (asked["train"] | asked["validation"]), task


def _asked(row: make_tasks.Row) -> str:
    messages = row.get("messages")
    return str(messages[0] if isinstance(messages, list) else row.get("prompt", row.get("text")))


def test_the_table_knows_the_recipes() -> None:
    names = tasks_table.task_recipes()
    assert "quickstart" not in names
    for name in names:
        assert "task" in load(tasks_table.RECIPES / f"{name}.yaml").suites
        assert f"`{name}`" in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_intervals_that_touch_are_not_apart() -> None:
    assert tasks_table.apart({"low": 0.1, "high": 0.2}, {"low": 0.3, "high": 0.4})
    assert tasks_table.apart({"low": 3.0, "high": 4.0}, {"low": 1.0, "high": 2.0})
    assert not tasks_table.apart({"low": 0.1, "high": 0.3}, {"low": 0.3, "high": 0.4})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classification-generation", "classification", "tool-calling"])
def test_it_learns_and_ships(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / f"{name}.yaml"
    done = subprocess.run(
        [sys.executable, "-c", tasks_table.RUN, "run", str(recipe), "--json"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {target["status"] for target in json.loads(done.stdout)["targets"]} == {"built"}
    built, metric = tmp_path / "build" / name, load(recipe).suites["task"].metrics[0]
    before, after = (tasks_table.figure(built / f"eval.{when}", metric) for when in ("base", "tuned"))
    assert tasks_table.apart(before, after)
    assert after["value"] > before["value"]
