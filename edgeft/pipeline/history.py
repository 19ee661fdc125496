"""Reading the records of runs: which there are, one in full, and what differs between two. For `edgeft runs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import UsageError
from edgeft.files import canonical_json
from edgeft.pipeline.events import Status
from edgeft.pipeline.fingerprint import Components, differences
from edgeft.pipeline.locks import is_live
from edgeft.pipeline.manifest import LAYOUT


@dataclass(frozen=True)
class Run:
    """One run as recorded. `data` is the whole record.

    state  "running", "killed" (it never ended), "ok", "interrupted", "verdict failed" or "failed"
    """

    id: str
    recipe: str
    started: str  # UTC, ISO 8601
    seconds: float | None
    exit_code: int | None
    state: str
    data: Mapping[str, Any]

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """Target name -> {"stage", "status", "reasons", "fingerprint", "artifact", "seconds", "error", …}."""
        targets: Mapping[str, Mapping[str, Any]] = self.data["targets"]
        return targets

    def count(self, status: Status) -> int:
        """How many targets ended so."""
        return sum(entry.get("status") == str(status) for entry in self.targets.values())


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ.

    kind  "recipe", "target", "parameter", "source", "input", "version", "result", "fact", "measurement", "environment"
    a, b  the two values, as short texts; None where there is none. For kinds that say it in words, `name` is all there
          is.
    """

    target: str
    kind: str
    name: str
    a: str | None = None
    b: str | None = None

    def __str__(self) -> str:
        values = "" if self.a is None and self.b is None else f" {self.a or 'none'} → {self.b or 'none'}"
        return f"{f'{self.target}: ' if self.target else ''}{self.name}{values}"


def list_runs(root: Path) -> list[Run]:
    """Every run recorded below `root`, the newest first. Records that cannot be read are left out."""
    folder = root / ".edgeft" / "runs"
    paths = sorted(folder.glob("*.json"), reverse=True) if folder.is_dir() else []
    runs = (_load(root, path) for path in paths)
    return [run for run in runs if run is not None]


def read_run(root: Path, name: str = "last") -> Run:
    """A run by its id, the beginning of its id, or "last". A `UsageError` when there is none or several."""
    runs = list_runs(root)
    if not runs:
        raise UsageError("there are no runs here yet", where=root, do="run a recipe: edgeft run RECIPE")
    if name == "last":
        return runs[0]
    found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(found) != 1:
        what = f"there is no run {name!r}" if not found else f"{name!r} is the beginning of {len(found)} runs"
        raise UsageError(what, do="edgeft runs list shows them")
    return found[0]


def diff_runs(a: Run, b: Run) -> list[Difference]:
    """What differs from run `a` to run `b`: settings, inputs and sources, results, facts, measurements, environment."""
    found = list(_texts("", "recipe", _recipe(a), _recipe(b)))
    names = [*b.targets, *(name for name in a.targets if name not in b.targets)]
    for name in names:
        before, after = a.targets.get(name), b.targets.get(name)
        if before is None or after is None:
            found.append(Difference(name, "target", "only in the second run" if after else "only in the first run"))
        else:
            found.extend(_target(name, before, after))
    found.extend(_texts("", "environment", _flat(a.data["environment"]), _flat(b.data["environment"])))
    return found


def _target(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    if "components" in a and "components" in b:
        for reason in differences(Components.from_json(a["components"]), Components.from_json(b["components"])):
            yield Difference(name, reason.kind, reason.text)
    verdicts = {"passed": a.get("passed")}, {"passed": b.get("passed")}
    yield from _texts(name, "result", verdicts[0], verdicts[1])
    if a.get("digest") and b.get("digest") and a["digest"] != b["digest"]:
        yield Difference(name, "result", "digest", a["digest"][:12], b["digest"][:12])
    yield from _texts(name, "fact", _flat(a.get("facts", {})), _flat(b.get("facts", {})))
    yield from _texts(name, "measurement", _flat(a.get("measurements", {})), _flat(b.get("measurements", {})))
    yield from _texts(name, "measurement", {"bytes": a.get("bytes")}, {"bytes": b.get("bytes")})


def _texts(target: str, kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*a, *b)):
        before, after = a.get(name), b.get(name)
        if before != after:
            yield Difference(target, kind, name, _text(before), _text(after))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else canonical_json(value)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def _recipe(run: Run) -> dict[str, Any]:
    data = run.data
    return {
        "name": data["recipe"],
        "text": data["recipe_digest"][:12] if data["recipe_digest"] else None,
        "overrides": " ".join(data["overrides"]) or None,
    }


def _load(root: Path, path: Path) -> Run | None:
    try:
        data = files.read_json(path)
        if data["layout"] != LAYOUT:
            return None
        code = data["exit_code"]
        return Run(
            id=data["id"],
            recipe=data["recipe"],
            started=data["started"],
            seconds=data.get("seconds"),
            exit_code=code,
            state=_state(root, data["id"], code),
            data=data,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(root: Path, run: str, code: int | None) -> str:
    if code is None:
        return "running" if is_live(root / ".edgeft", run) else "killed"
    return {0: "ok", 4: "verdict failed", 130: "interrupted"}.get(code, "failed")
