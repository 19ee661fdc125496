"""What a plan or a run is handed: where it works, the recipe's identity, the table of stages, and the user's wishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeft.registry import Table


class FoundModel(Protocol):
    """A base model reference taken apart; `edgeft.models.base.Base` is one."""

    @property
    def kind(self) -> str: ...  # "builtin", "folder", "hub" or "derived"

    @property
    def folder(self) -> Path | None: ...  # None: a hub id that is not in the local cache

    @property
    def revision(self) -> str | None: ...  # the commit, for a hub id in the cache


class Models(Protocol):
    """How "model" sources are found; the module `edgeft.models.base` itself is one."""

    def find(self, ref: str, *, relative_to: Path | None = None) -> FoundModel: ...

    def resolve(self, ref: str, *, relative_to: Path | None = None) -> Path: ...


@dataclass(frozen=True)
class RecipeInfo:
    """A recipe's identity, for build links and manifests.

    name       the folder below build/ (usually the recipe file's stem)
    path       as the user gave it; "" when there is no file
    text       the file's text, kept in the run's manifest
    overrides  the --set options, as given
    """

    name: str
    path: str = ""
    text: str = ""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """Where things lie and what there is.

    root    holds `.edgeft/` and `build/`
    stages  stage kind -> row; a row loads to a module with VERSION, Params and run
    models  finds and resolves "model" sources (pass the module `edgeft.models.base`)
    base    relative sources are looked up from here (usually the recipe's folder)
    """

    root: Path
    recipe: RecipeInfo
    stages: Table
    models: Models
    base: Path = field(default_factory=Path.cwd)

    @property
    def home(self) -> Path:
        return self.root / ".edgeft"


@dataclass(frozen=True)
class Options:
    """What the user asks of a run.

    names         targets or patterns ("train", "export.*", "export" for all of `export.…`); none: the default targets
    force         -B: build every selected target again
    keep_going    -k: go on with what does not depend on the failure
    from_scratch  throw away checkpoints that an interrupted run left
    lenient_only  build only lenient targets (the report), from what there is
    """

    names: Sequence[str] = ()
    force: bool = False
    keep_going: bool = False
    from_scratch: bool = False
    lenient_only: bool = False
