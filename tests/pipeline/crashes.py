"""Kills toy runs at chosen points, resumes them, and says what came out. Run by test_kill.py in a process of its own:

    python -m tests.pipeline.crashes FOLDER POINT[,POINT…] …

Each argument is one story: killed at its first point, resumed and killed at the second, …, at last resumed to the end.
Points count the calls that change the file system (and the steps of training); "count" prints how many an undisturbed
run makes. One JSON line per story. Every run is a fork, so that SIGKILL takes no harness with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.pipeline import Event, EventKind, Options, RunResult, Status, run
from tests.pipeline import toy

POINTS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "symlink")


class Killer:
    """Counts crash points and kills this process before the chosen one."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.count = 0
        self.names: list[str] = []

    def point(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def patch(self) -> None:
        for name in POINTS:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **named: Any) -> Any:
            self.point(name)
            return call(*given, **named)

        return watched


def bake(root: Path, killer: Killer, *, force: bool = False) -> RunResult:
    """One run of the toy recipe. Training steps are crash points too."""

    def listen(event: Event) -> None:
        if event.kind in (EventKind.PROGRESS, EventKind.STARTED):
            killer.point(f"{event.kind} {event.target}")

    return run(toy.targets(exports=("a",)), toy.kitchen(root), Options(force=force), listen)


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """(exit status, result) of `work` in a child process. A status below 0 is the signal that ended it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            with os.fdopen(writer, "w") as stream:
                json.dump(work(), stream)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(text) if status == 0 else None


def facts_of(root: Path, result: RunResult) -> dict[str, Any]:
    """What must be the same whether or not a run was killed before."""
    build = root / "build" / "toy"
    store = root / ".edgeft" / "store"
    scratch = root / ".edgeft" / "scratch"
    return {
        "exit_code": result.exit_code,
        "digests": {each.target.name: each.artifact.digest for each in result.results if each.artifact},
        "links": {each.target.name: (build / each.target.name).resolve().name for each in result.results},
        "damaged": [path.name for path in store.iterdir() if artifact.damaged(artifact.load(path), thorough=True)],
        "store": sorted(path.name for path in store.iterdir()),
        "scratch": sorted(path.name for path in scratch.iterdir()) if scratch.is_dir() else [],
    }


def story(root: Path, points: list[int], *, force: bool = False) -> dict[str, Any]:
    """Kill at each point in turn, resume to the end; `force` kills a -B run of a kitchen that was finished before."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    toy.kitchen(root)  # what the user had before: not a run's to lose
    if force:
        forked(lambda: facts_of(root, bake(root, Killer(None))))

    def attempt(at: int | None) -> dict[str, Any]:
        killer = Killer(at)
        killer.patch()
        toy.CALLS.clear()
        result = bake(root, killer, force=force and at is not None)
        built = [each.target.name for each in result.results if each.status == Status.BUILT]
        return {"count": killer.count, "names": killer.names, "built": built, "calls": list(toy.CALLS)} | facts_of(
            root, result
        )

    killed = [forked(lambda at=at: attempt(at))[0] == -signal.SIGKILL for at in points]  # type: ignore[misc]
    status, told = forked(lambda: attempt(None))
    assert status == 0, f"the resumed run ended with {status}"
    return {"points": points, "killed": killed, **told}


def main(folder: str, *stories: str) -> None:
    for text in stories:
        force = text.startswith("force:")
        points = [] if text == "count" else [int(part) for part in text.removeprefix("force:").split(",")]
        print(json.dumps(story(Path(folder) / "root", points, force=force)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
