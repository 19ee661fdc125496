#!/usr/bin/env python3
"""Run the task recipes up to their gates and print a table: recipe, objective, time of the training, the metric on
held-out rows before and after, each with its 95 % interval, and the number of rows.

    tools/tasks_table.py                      all recipes on the packaged base but the quickstart
    tools/tasks_table.py extraction-json …    some of them

The work lies in `--folder` (default build/tasks) and is kept, so that a second run only prints. The first metric of the
recipe's suite `task` is told. A recipe in phases has a line for each phase: the earlier ones are asked the same rows.
Before a reward model is trained stands the head as training starts it. Exit code 1 when an interval after touches the
one before, or a recipe failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edgeft.recipe import load  # noqa: E402
from edgeft.recipe.judging import Suite  # noqa: E402
from edgeft.stages.targets import phase_target  # noqa: E402

RECIPES = ROOT / "recipes"
TARGETS = ("eval.base", "eval.tuned", "gate")
# Recipe -> (the recipe that makes its teacher, the target, what that recipe is told besides).
TEACHERS = {"distill": ("brand-voice", "merge", "merge=true")}
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


def lines(name: str, folder: Path) -> tuple[list[list[str]], bool]:
    """Run a recipe (what is up to date is not run again); the table's lines, and whether it clearly learned."""
    recipe = load(RECIPES / f"{name}.yaml")
    objectives = [phase.objective for phase in recipe.phases]
    overrides = with_teacher(name, folder)
    started = time.monotonic()
    code = edgeft(folder, "run", str(RECIPES / f"{name}.yaml"), *TARGETS, *overrides)
    wall = time.monotonic() - started
    built = folder / "build" / name
    if code not in (0, 4) or not (built / "eval.tuned").exists():
        return [[name, " → ".join(objectives), f"failed with exit code {code}", "", "", "", "", ""]], False
    metric = recipe.suites["task"].metrics[0]
    before, after = (figure(built / f"eval.{when}", metric) for when in ("base", "tuned"))
    found = []
    for phase in recipe.phases:
        target = built / phase_target(recipe, phase)
        seconds = json.loads((target / "speed.json").read_text(encoding="utf-8"))["training_seconds"]
        last = phase is recipe.train
        then = after if last else asked_of(target, recipe.suites["task"], built / "data", folder)[metric]
        label = name if len(objectives) == 1 else f"{name}, phase `{phase.name}`"
        cells = [label, phase.objective, metric, told(before), told(then), str(after["n"]), f"{seconds:.0f} s"]
        found.append([*cells, f"{wall:.0f} s" if last else ""])
    return found, apart(before, after) and code == 0


def with_teacher(name: str, folder: Path) -> list[str]:
    """Make the teacher of a recipe that needs one; what the recipe is told of it."""
    if name not in TEACHERS:
        return []
    recipe, target, setting = TEACHERS[name]
    edgeft(folder, "run", str(RECIPES / f"{recipe}.yaml"), target, "--set", setting)
    return ["--set", f"train.teacher={folder / 'build' / recipe / target}"]


def asked_of(adapter: Path, suite: Suite, data: Path, folder: Path) -> Mapping[str, Any]:
    """{metric: figure} of the suite's rows, put to an adapter that a recipe does not evaluate."""
    out = folder / "phases" / f"{adapter.parent.name}.{adapter.name}"
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(exist_ok=True)
    metrics = [word for metric in suite.metrics for word in ("--metric", metric)]
    rows = ["--suite", f"task={data / 'test.jsonl'}", "--kind", suite.kind, "--max-tokens", str(suite.max_tokens)]
    edgeft(folder, "eval", str(adapter), *rows, *metrics, "--out", str(out))
    return dict(json.loads((out / "summary.json").read_text(encoding="utf-8"))["task"])


def edgeft(folder: Path, *words: str) -> int:
    """The exit code of an edgeft command in a folder."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN}", *words]
    return subprocess.run(command, cwd=folder, check=False).returncode


def main() -> int:
    """Run and print; the table is Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="*", default=task_recipes(), help="names of recipes; default all")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "tasks", help="where the work lies")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    made = [lines(name, folder) for name in options.recipe]
    for cells in (HEAD, ["---"] * len(HEAD), *(cells for found, _ in made for cells in found)):
        print("| " + " | ".join(cells) + " |")
    return 0 if all(learned for _, learned in made) else 1


if __name__ == "__main__":
    sys.exit(main())
