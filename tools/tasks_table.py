#!/usr/bin/env python3
"""Run the task recipes up to their gates and print a table: recipe, objective, time of the training, the metric on
held-out rows before and after, each with its 95 % interval, and the number of rows.

    tools/tasks_table.py                      all recipes on the packaged base but the quickstart
    tools/tasks_table.py extraction-json …    some of them

The work lies in `--folder` (default build/tasks) and is kept, so that a second run only prints. The first metric of the
recipe's suite `task` is told. Exit code 1 when an interval after touches the one before, or a recipe failed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edgeft.recipe import load  # noqa: E402

RECIPES = ROOT / "recipes"
TARGETS = ("train", "eval.base", "eval.tuned", "gate")
RUN = "import sys; from edgeft.cli.main import main; sys.exit(main())"
HEAD = ("recipe", "objective", "metric", "before", "after", "rows", "training", "whole run")


def task_recipes() -> list[str]:
    """The recipes on the packaged base, by name; the quickstart has a table of its own."""
    found = [path.stem for path in sorted(RECIPES.glob("*.yaml")) if load(path).base_model == "builtin:sprout"]
    return [name for name in found if name != "quickstart"]


def figure(evaluation: Path, metric: str) -> Mapping[str, Any]:
    """{"value", "low", "high", "n"} of the suite `task`, as the eval stage wrote it."""
    summary = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    return dict(summary["task"][metric])


def told(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def apart(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the two intervals have nothing in common."""
    return bool(before["high"] < after["low"] or after["high"] < before["low"])


def line(name: str, folder: Path) -> tuple[list[str], bool]:
    """Run a recipe (what is up to date is not run again); the table's line, and whether it clearly learned."""
    recipe = load(RECIPES / f"{name}.yaml")
    started = time.monotonic()
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN}", "run"]
    done = subprocess.run([*command, str(RECIPES / f"{name}.yaml"), *TARGETS], cwd=folder, check=False)
    wall = time.monotonic() - started
    built = folder / "build" / name
    if done.returncode not in (0, 4) or not (built / "eval.tuned").exists():
        return [name, recipe.train.objective, f"failed with exit code {done.returncode}", "", "", "", "", ""], False
    metric = recipe.suites["task"].metrics[0]
    before, after = (figure(built / f"eval.{when}", metric) for when in ("base", "tuned"))
    seconds = json.loads((built / "train" / "speed.json").read_text(encoding="utf-8"))["training_seconds"]
    cells = [name, recipe.train.objective, metric, told(before), told(after), str(after["n"])]
    return [*cells, f"{seconds:.0f} s", f"{wall:.0f} s"], apart(before, after) and done.returncode == 0


def main() -> int:
    """Run and print; the table is Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="*", default=task_recipes(), help="names of recipes; default all")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "tasks", help="where the work lies")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = [line(name, options.folder) for name in options.recipe]
    for cells in (HEAD, ["---"] * len(HEAD), *(cells for cells, _ in lines)):
        print("| " + " | ".join(cells) + " |")
    return 0 if all(learned for _, learned in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
