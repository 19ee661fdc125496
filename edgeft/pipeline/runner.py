"""Runs a plan: builds what must be built, in order, and says what happens. Called by `edgeft.cli`.

Every decision is `Planner.decide`'s, taken again when a target's turn comes and all its inputs are settled. What a
failure means for the others, what is linked into `build/`, and the exit code are decided here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeft import extras
from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError, Interrupted, StorageError, storage_errors
from edgeft.pipeline.build import Builder, locate
from edgeft.pipeline.events import Event, EventKind, Events, Reason, Status, quiet
from edgeft.pipeline.fingerprint import Components
from edgeft.pipeline.interrupts import Interrupts, interrupts
from edgeft.pipeline.locks import LiveRun
from edgeft.pipeline.manifest import Manifest
from edgeft.pipeline.plan import Planned, Planner, State
from edgeft.pipeline.project import Options, Project
from edgeft.pipeline.stage import Target
from edgeft.pipeline.store import link, unlink
from edgeft.registry import lookup


@dataclass(frozen=True)
class TargetResult:
    """How one target ended. `error` only when it failed; `seconds` only when it was built or tried."""

    target: Target
    status: Status
    reasons: tuple[Reason, ...] = ()
    fingerprint: str | None = None
    artifact: Artifact | None = None
    seconds: float | None = None
    error: EdgeftError | None = None


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    exit_code  0 built or up to date; 4 a verdict did not pass; 130 interrupted; else the first failed target's own code
    error      the first failure (an `Interrupted` when interrupted), for the command line to print
    """

    id: str
    manifest: Path
    results: tuple[TargetResult, ...]
    exit_code: int
    seconds: float
    error: EdgeftError | None = None

    def __getitem__(self, name: str) -> TargetResult:
        return next(result for result in self.results if result.target.name == name)


def run(
    targets: Sequence[Target], project: Project, options: Options | None = None, events: Events = quiet
) -> RunResult:
    """Build what is asked for. Failures of targets, bad verdicts and Ctrl-C are in the result, with its exit code.

    Raises only what stops a run before it starts: `InputError` (graph, names, sources), `MissingError` (an extra that a
    target needs; with `keep_going` only that target fails), `StorageError` (`.edgeft` not writable), `Interrupted`.
    """
    try:
        with interrupts() as signals, storage_errors(project.home):
            planner = Planner(targets, project, options or Options())
            ahead = planner.plan()
            if not planner.options.keep_going:
                _require_extras(ahead, project)
            manifest = Manifest(project, planner.options, planner.order)
            with LiveRun(project.home, manifest.id) as live:
                manifest.write()
                runner = _Runner(planner, manifest, Builder(planner, live, signals, events), signals, events)
                return runner.run(ahead)
    except KeyboardInterrupt:  # before the first target or after the last one
        raise Interrupted from None


def _require_extras(ahead: Sequence[Planned], project: Project) -> None:
    """Ask for every needed extra before hours of work, not after."""
    for planned in ahead:
        row = lookup(project.stages, planned.target.stage, "stage")
        if planned.will_run and row.extra:
            extras.require(row.extra)


@dataclass
class _Runner:
    planner: Planner
    manifest: Manifest
    builder: Builder
    signals: Interrupts
    events: Events
    states: dict[str, State] = field(default_factory=dict)
    results: dict[str, TargetResult] = field(default_factory=dict)
    stopped: str | None = None  # why nothing more is built
    started: int = 0
    total: int = 0

    def run(self, ahead: Sequence[Planned]) -> RunResult:
        began = time.monotonic()
        self.total = sum(planned.will_run for planned in ahead)
        interrupted = False
        current: Target | None = None
        try:
            for current in self.planner.order:
                self.signals.check()
                self._one(current)
        except KeyboardInterrupt:
            interrupted = True
            if current is not None and current.name not in self.results:
                self._interrupt(current)
        for target in self.planner.order:
            if target.name not in self.results:
                self._skip(target, (Reason("stopped", "the run was interrupted"),))
        error = Interrupted() if interrupted else self._first_error()
        exit_code = error.exit_code if error else self._verdict_code()
        self.manifest.finish(exit_code)
        self._write()
        self.planner.cache.save()
        results = tuple(self.results[target.name] for target in self.planner.order)
        return RunResult(self.manifest.id, self.manifest.path, results, exit_code, time.monotonic() - began, error)

    def _one(self, target: Target) -> None:
        """Decide one target and do what follows."""
        try:
            planned = self._decide(target)
        except EdgeftError as error:  # a source that vanished meanwhile, a download that failed
            self._fail(Planned(target, Status.WILL_RUN), error, 0.0)
            return
        if planned.status == Status.BLOCKED:
            self.events(Event(EventKind.BLOCKED, target.name, target.stage, planned.reasons))
            self._end(planned, Status.BLOCKED)
        elif planned.status == Status.NOT_RUN:
            self._skip(target, planned.reasons)
        elif not planned.will_run:
            self._keep(planned)
        elif self.stopped is not None and not target.lenient:
            self._skip(target, (Reason("stopped", f"stopped: {self.stopped}"),))
        else:
            self._build(planned)

    def _decide(self, target: Target) -> Planned:
        """The planner's decision, for good: models are downloaded, an artifact that is used is pinned."""
        while True:
            planned = self.planner.decide(target, self.states)
            if planned.status == Status.MAY_RUN or (planned.will_run and planned.fingerprint is None):
                if self.stopped is not None:
                    return planned
                for source in target.sources.values():
                    locate(source, self.planner.project.base, self.planner.project.models)
            elif planned.will_run or planned.artifact is None or self.builder.confirm(planned):
                return planned

    def _keep(self, planned: Planned) -> None:
        """Nothing to do: a whole artifact is there. It may be a verdict that did not pass."""
        kind = EventKind.SKIPPED if planned.status == Status.UP_TO_DATE else EventKind.FINISHED
        name, stage = planned.target.name, planned.target.stage
        self.events(Event(kind, name, stage, planned.reasons, artifact=planned.artifact))
        self._remember(planned.target.name, planned.status, planned.fingerprint, planned.components)
        self._end(planned, planned.status, planned.artifact)

    def _build(self, planned: Planned) -> None:
        target = planned.target
        self.started += 1
        self.total = max(self.total, self.started)
        index, total = self.started, self.total
        self.events(Event(EventKind.STARTED, target.name, target.stage, planned.reasons, index=index, total=total))
        began = time.monotonic()
        assert planned.fingerprint is not None
        try:
            with storage_errors(self.planner.project.home):
                self.planner.known.started(target.name, planned.fingerprint)
            built = self.builder.build(planned, self.states)
        except EdgeftError as error:
            self._fail(planned, error, time.monotonic() - began)
            return
        seconds = time.monotonic() - began
        self.planner.built.add(planned.fingerprint)
        self.planner.cache.save()
        status = Status.BUILT if built.artifact.passed else Status.FAILED_VERDICT
        reasons = planned.reasons
        kind = EventKind.FINISHED
        if built.found is not None:
            reasons = (built.found,)
            if built.artifact.passed:
                status, kind = Status.UP_TO_DATE, EventKind.SKIPPED
        self.events(
            Event(
                kind,
                target.name,
                target.stage,
                reasons,
                artifact=built.artifact,
                seconds=seconds,
                index=index,
                total=total,
            )
        )
        self._remember(target.name, status, planned.fingerprint, planned.components)
        self._end(planned, status, built.artifact, seconds=seconds, reasons=reasons)
        self._write()

    def _fail(self, planned: Planned, error: EdgeftError, seconds: float) -> None:
        target = planned.target
        self.events(Event(EventKind.FAILED, target.name, target.stage, error=error, seconds=seconds))
        self._remember(target.name, Status.FAILED, planned.fingerprint)
        self._end(planned, Status.FAILED, seconds=seconds, error=error)
        self._write()

    def _write(self) -> None:
        """Bring the manifest up to date. A disk that cannot take it (it may be why a target failed) is only told."""
        try:
            self.manifest.write()
        except OSError as error:
            message = f"the record of this run could not be written: {error.strerror}"
            self.events(Event(EventKind.WARNING, "", message=message))

    def _interrupt(self, target: Target) -> None:
        """Ctrl-C in the middle of a target: note it, leave links as they are."""
        planned = Planned(target, Status.INTERRUPTED)
        with contextlib.suppress(EdgeftError, OSError):
            planned = self.planner.decide(target, self.states)
        self._remember(target.name, Status.INTERRUPTED, planned.fingerprint)
        self.results[target.name] = TargetResult(target, Status.INTERRUPTED, planned.reasons, planned.fingerprint)
        self.states[target.name] = State(Status.INTERRUPTED)
        self.manifest.note(target, Status.INTERRUPTED, planned.reasons, fingerprint=planned.fingerprint)

    def _skip(self, target: Target, reasons: tuple[Reason, ...]) -> None:
        self.events(Event(EventKind.SKIPPED, target.name, target.stage, reasons))
        self._end(Planned(target, Status.NOT_RUN, reasons), Status.NOT_RUN)

    def _remember(
        self, target: str, status: Status, fingerprint: str | None, components: Components | None = None
    ) -> None:
        """For the next "why". It only explains, so a disk that cannot take it does not fail the run."""
        if fingerprint is not None:
            with contextlib.suppress(OSError):
                self.planner.known.ended(target, fingerprint, status, components)

    def _end(
        self,
        planned: Planned,
        status: Status,
        artifact: Artifact | None = None,
        *,
        seconds: float | None = None,
        error: EdgeftError | None = None,
        reasons: tuple[Reason, ...] | None = None,
    ) -> None:
        """Settle a target: its state for the others, its result, its line in the manifest, links that follow from
        it."""
        target = planned.target
        reasons = planned.reasons if reasons is None else reasons
        self.states[target.name] = State(status, artifact)
        self.results[target.name] = TargetResult(target, status, reasons, planned.fingerprint, artifact, seconds, error)
        self.manifest.note(
            target,
            status,
            reasons,
            fingerprint=planned.fingerprint,
            components=planned.components,
            artifact=artifact,
            seconds=seconds,
            error=error,
        )
        if status in (Status.FAILED, Status.FAILED_VERDICT) and not self.planner.options.keep_going:
            word = "failed" if status == Status.FAILED else "did not pass"
            self.stopped = self.stopped or f"{target.name} {word}"
        self._link(target)
        for other in self.results.values():
            if other.target.judged_by == target.name:
                self._link(other.target)

    def _link(self, target: Target) -> None:
        """Bring `build/<recipe>/<target>` in line with how it stands with the target and its judge."""
        state = self.states[target.name]
        judge = self.states.get(target.judged_by) if target.judged_by else State(Status.UP_TO_DATE)
        root, recipe = self.planner.project.root, self.planner.project.recipe.name
        gone = (Status.FAILED, Status.BLOCKED)
        place, kind = None, EventKind.LINKED
        try:
            with storage_errors(root / "build"):
                if state.status in gone or (judge is not None and judge.status in (*gone, Status.FAILED_VERDICT)):
                    place, kind = unlink(root, recipe, target.name), EventKind.UNLINKED
                elif state.artifact is not None and judge is not None and judge.status.usable:
                    place = link(root, recipe, target.name, state.artifact.path)
        except StorageError as error:
            self.events(Event(EventKind.FAILED, target.name, target.stage, error=error))
            self.results[target.name] = replace(self.results[target.name], status=Status.FAILED, error=error)
            self.states[target.name] = State(Status.FAILED)
        if place is not None:
            self.events(Event(kind, target.name, target.stage, message=str(place), artifact=state.artifact))

    def _first_error(self) -> EdgeftError | None:
        errors = (self.results[target.name].error for target in self.planner.order)
        return next((error for error in errors if error is not None), None)

    def _verdict_code(self) -> int:
        return 4 if any(result.status == Status.FAILED_VERDICT for result in self.results.values()) else 0
