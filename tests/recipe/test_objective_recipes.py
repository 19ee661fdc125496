"""There is a recipe for each objective, and each goes the whole way: rows, a few steps, the suites on held-out rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.recipe import load
from edgeft.recipe.names import OBJECTIVES
from tools import tasks_table

ROOT = Path(__file__).parents[2]
SHORT = {  # recipe -> what makes its training short
    "domain-adaptation": ["train.max_steps=4"],
    "grpo-json": ["train.max_steps=2", "train.rewards=[{type: exact_match}]"],
    "preference-dpo": ["train.0.max_steps=4", "train.1.max_steps=4"],
    "preference-kto": ["train.max_steps=4"],
    "preference-orpo": ["train.max_steps=4"],
    "reward-model": ["train.max_steps=4"],
    "distill": ["train.max_steps=4", "train.teacher=builtin:sprout"],
}


def test_each_objective_has_a_recipe() -> None:
    recipes = [load(tasks_table.RECIPES / f"{name}.yaml") for name in tasks_table.task_recipes()]
    found = {phase.objective for recipe in recipes for phase in recipe.phases}
    assert found >= set(OBJECTIVES) - {"classification"}
    assert set(SHORT) <= set(tasks_table.task_recipes())


def test_a_teacher_is_another_recipes_model() -> None:
    for name, (maker, _, _) in tasks_table.TEACHERS.items():
        recipe = load(tasks_table.RECIPES / f"{name}.yaml")
        assert recipe.train.teacher == f"../build/{maker}/merge"
        assert maker in tasks_table.task_recipes()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT))
def test_a_short_run_of_it(name: str, tmp_path: Path) -> None:
    recipe = tasks_table.RECIPES / f"{name}.yaml"
    changed = [word for setting in SHORT[name] for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-c", tasks_table.RUN, "run", str(recipe), "eval.tuned", *changed, "--json"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {target["status"] for target in json.loads(done.stdout)["targets"]} == {"built"}
    built = tmp_path / "build" / name
    metric = load(recipe).suites["task"].metrics[0]
    assert tasks_table.figure(built / "eval.tuned", metric)["n"] >= 80
    if name == "grpo-json":  # the base is right now and then: a reward that were never given would not tell
        curve = [json.loads(line) for line in (built / "train" / "curve.jsonl").read_text().splitlines()]
        assert 0.1 < next(row["reward"] for row in curve if "reward" in row) < 0.9
