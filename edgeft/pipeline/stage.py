"""What the make engine knows of the work: targets (from a recipe), stages (from a table), and what a stage is handed.

`pipeline` knows no stage by name. `edgeft.stages` derives the targets of a recipe and holds the table of stage kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from edgeft.artifact import Artifact, Outcome
from edgeft.progress import Listener, silent


@dataclass(frozen=True)
class Source:
    """Something outside the store that a target reads: kind "file", "folder", "model" (a base-model reference)
    or "rows" (a dataset's path that is no single file: a glob, a folder, a hub id)."""

    kind: str
    ref: str


@dataclass(frozen=True)
class Target:
    """A named stage of a recipe.

    inputs    role -> target whose artifact the stage reads; their digests are part of the fingerprint
    sources   role -> what it reads from outside the store; their digests are part of the fingerprint
    after     targets that must have passed first but are not read (order only; not part of the fingerprint)
    judged_by a target whose failing verdict takes this one's link out of build/; asking for this target asks for it too
    lenient   runs with whatever inputs there are, also when some failed or were blocked (the report)
    default   built when no target is named
    """

    name: str
    stage: str
    params: BaseModel
    inputs: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    judged_by: str | None = None
    lenient: bool = False
    default: bool = True


@dataclass(frozen=True)
class Inputs:
    """The artifacts and sources a stage may read, by role. Nothing else reaches a stage."""

    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)  # role -> local path of the file, folder or base model

    def __getitem__(self, role: str) -> Artifact:
        return self.artifacts[role]

    def get(self, role: str) -> Artifact | None:
        return self.artifacts.get(role)


@dataclass(frozen=True)
class Work:
    """Where a stage works. `folder` becomes the artifact; `scratch` (checkpoints) outlives a kill of the same
    fingerprint and is removed when the artifact is finished."""

    folder: Path
    scratch: Path
    listen: Listener = silent
    warn: Callable[[str], None] = lambda message: None


class Stage(Protocol):
    """A stage module: light to import (heavy imports stand inside `run`).

    VERSION  raised when the same inputs would give another result than before; part of the fingerprint
    Params   a pydantic model; its canonical JSON is part of the fingerprint (fields marked
             `Field(json_schema_extra={"fingerprint": False})` are left out: they do not change the result)
    """

    VERSION: int
    Params: type[BaseModel]

    @staticmethod
    def run(params: Any, inputs: Inputs, work: Work) -> Outcome: ...
