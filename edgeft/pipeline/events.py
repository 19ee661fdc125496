"""What the runner says while it works. `edgeft.cli` draws events; nothing in `pipeline` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError
from edgeft.progress import Progress


class Status(StrEnum):
    """How it stands with a target: before a run (plan) or after it."""

    WILL_RUN = "will run"
    MAY_RUN = "may run"  # an input will be rebuilt; the same content again would leave this target as it is
    UP_TO_DATE = "up to date"
    BUILT = "built"
    FAILED = "failed"
    FAILED_VERDICT = "failed verdict"  # a whole artifact that says: did not pass
    BLOCKED = "blocked"  # something it needs failed or did not pass
    NOT_RUN = "not run"  # the run stopped before it
    INTERRUPTED = "interrupted"

    @property
    def usable(self) -> bool:
        """Whether there is a whole artifact that others may build on."""
        return self in (Status.BUILT, Status.UP_TO_DATE)


@dataclass(frozen=True)
class Reason:
    """Why a target runs (or does not). `kind` is for programs, `text` for people: "learning_rate 0.002 → 0.0001".

    kinds: never, parameter, source, input, pending, download, version, forced, damaged, missing, interrupted, failed,
    found (in the store, under settings used before), elsewhere (another run built it meanwhile), blocked, stopped,
    verdict
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


class EventKind(StrEnum):
    STARTED = "started"  # reasons, index, total
    PROGRESS = "progress"  # progress
    WAITING = "waiting"  # another run builds the same artifact
    WARNING = "warning"  # message
    FINISHED = "finished"  # artifact, seconds; also a verdict that did not pass (artifact.passed is False)
    SKIPPED = "skipped"  # up to date (artifact), or not run (no artifact); reasons
    FAILED = "failed"  # error, seconds
    BLOCKED = "blocked"  # reasons
    LINKED = "linked"  # build/<recipe>/<target> now points at the artifact; message is the link's path
    UNLINKED = "unlinked"  # a link of an older result was taken away; message is the link's path


@dataclass(frozen=True)
class Event:
    """One thing that happened to one target. `index` counts the targets that run from 1, of `total` planned ones."""

    kind: EventKind
    target: str
    stage: str = ""
    reasons: tuple[Reason, ...] = ()
    message: str = ""
    progress: Progress | None = None
    artifact: Artifact | None = None
    error: EdgeftError | None = None
    seconds: float = 0.0
    index: int = 0
    total: int = 0


Events = Callable[[Event], None]


def quiet(_: Event) -> None:
    """A listener that says nothing."""
