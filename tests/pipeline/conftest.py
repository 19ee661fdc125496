"""A toy kitchen per test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.pipeline import Event, Options, Planned, Project, RunResult, Status, plan, run
from tests.pipeline import toy


class Kitchen:
    """A project in a temporary folder, with shorthands. `events` are those of the last run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = toy.ToyModels()
        self.project: Project = toy.kitchen(root, models=self.models)
        self.events: list[Event] = []
        self.hook: Callable[[Event], None] = lambda event: None

    def run(self, *names: str, options: dict[str, Any] | None = None, **changes: Any) -> RunResult:
        self.events.clear()
        toy.CALLS.clear()

        def listen(event: Event) -> None:
            self.events.append(event)
            self.hook(event)

        return run(toy.targets(**changes), self.project, Options(names, **(options or {})), listen)

    def plan(self, *names: str, options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Planned]:
        toy.CALLS.clear()
        return {
            each.target.name: each
            for each in plan(toy.targets(**changes), self.project, Options(names, **(options or {})))
        }

    def linked(self) -> dict[str, str]:
        """Target -> name of the store entry that its build link points at."""
        folder = self.root / "build" / "toy"
        return {path.name: path.resolve().name for path in sorted(folder.iterdir())} if folder.exists() else {}

    def stored(self) -> list[str]:
        folder = self.root / ".edgeft" / "store"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def scratch(self) -> list[str]:
        folder = self.root / ".edgeft" / "scratch"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def statuses(result: RunResult) -> dict[str, Status]:
    return {each.target.name: each.status for each in result.results}


def why(planned: Planned) -> list[str]:
    return [str(reason) for reason in planned.reasons]


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)
