"""What a recipe's own lm-eval tasks are, read from their YAML files without the harness. Called by `edgeft check`.

A task that lies in no folder of the recipe's (`include_path`) is the harness's own: it is known when it is run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeft.errors import RecipeError
from edgeft.recipe.names import HARNESS_BITS, HARNESS_PREFIX, HARNESS_WHOLE
from edgeft.recipe.schema import Recipe

_MOST_INCLUDES = 8
_ROLLING = "loglikelihood_rolling"


Metrics = tuple[str, ...] | None  # that the rows of a task have, which gates can name; None: its file does not say


def task_faults(recipe: Recipe) -> Iterator[RecipeError]:
    """Folders of tasks that are not there, tasks that are in none, and gates on metrics that a task has not."""
    known: dict[str, dict[str, Metrics]] = {}
    for name, suite in recipe.suites.items():
        if suite.include_path is None or suite.task is None:
            continue
        where = recipe.location_of(f"eval.suites.{name}.include_path")
        folder = recipe.resolve(suite.include_path)
        if not folder.is_dir():
            do = "include_path is a folder of lm-eval task files, relative to the recipe"
            yield RecipeError(f"there is no folder {suite.include_path}", where=where, do=do)
            continue
        found = known.setdefault(suite.include_path, tasks_in(folder))
        near = difflib.get_close_matches(suite.task, found, n=1)
        if near and suite.task not in found:
            at = recipe.location_of(f"eval.suites.{name}.rows")
            do = f"did you mean {HARNESS_PREFIX}{near[0]}?"
            yield RecipeError(f"{suite.include_path} has no task {suite.task!r}", where=at, do=do)
        elif suite.task in found:
            yield from _gates(recipe, name, found[suite.task])


def _gates(recipe: Recipe, suite: str, metrics: Metrics) -> Iterator[RecipeError]:
    for index, gate in enumerate(recipe.gates if metrics is not None else ()):
        metric = gate.metric.partition("@")[0]
        if metrics and gate.suite and gate.suite.partition("/")[0] == suite and metric not in metrics:
            where = recipe.location_of(f"gate.checks.{index}")
            what = f"gate {gate.text!r}: the rows of the task have no {metric}"
            yield RecipeError(what, where=where, do=f"its rows have: {', '.join(metrics)}")


def tasks_in(folder: Path) -> dict[str, Metrics]:
    """The tasks of a folder's YAML files, by name; files that are no task, or cannot be read, are the harness's to
    tell."""
    found: dict[str, Metrics] = {}
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        settings = _read(path)
        name = settings.get("task")
        if isinstance(name, str):
            found[name] = _metrics(settings)
    return found


def _metrics(settings: dict[str, Any]) -> Metrics:
    listed = settings.get("metric_list")
    named = [entry.get("metric") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if settings.get("output_type") == _ROLLING:
        return (HARNESS_BITS,)
    if not named or not all(isinstance(metric, str) for metric in named):
        return None  # the harness's own choice by output_type, or functions of the task's
    return tuple(str(metric) for metric in named if metric not in HARNESS_WHOLE) or None


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    """A task file's settings, those of the file that it includes below its own."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    base = found.get("include")
    if isinstance(base, str) and depth < _MOST_INCLUDES:
        return {**_read(path.parent / base, depth + 1), **found}
    return dict(found)
