"""Builds one target: its lock, its folders, the stage's `run`, and every way in which that can fail, named."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft import artifact as artifacts
from edgeft import datafiles, files
from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError, InputError, Interrupted, StorageError, storage_error
from edgeft.pipeline.digests import digest_source, source_path
from edgeft.pipeline.events import Event, EventKind, Events, Reason
from edgeft.pipeline.interrupts import Interrupts, interrupts
from edgeft.pipeline.locks import LiveRun
from edgeft.pipeline.measure import Meter, environment
from edgeft.pipeline.plan import Planned, Planner, States
from edgeft.pipeline.project import Models
from edgeft.pipeline.stage import Inputs, Source, Target, Work
from edgeft.pipeline.store import entry_name
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import Row, lookup

_ELSEWHERE = Reason("elsewhere", "another run built it meanwhile")
_FINISHED = Reason("found", "finished by a run that was killed before it could say so")
_WORTH_COLLECTING = 1.0  # seconds: a stage that took less left nothing that is worth the time


@dataclass(frozen=True)
class Built:
    """The artifact of a target. `found`: why nothing had to be built after all; None when it was built."""

    artifact: Artifact
    found: Reason | None = None


class Builder:
    """Builds targets of one run, one after the other."""

    def __init__(self, planner: Planner, live: LiveRun, interrupts: Interrupts, events: Events) -> None:
        self._planner = planner
        self._project = planner.project
        self._store = planner.store
        self._live = live
        self._interrupts = interrupts
        self._events = events

    def confirm(self, planned: Planned) -> bool:
        """Pin an artifact that is up to date, so that nobody collects it while this run needs it. False: it is gone."""
        target, fingerprint = planned.target, planned.fingerprint or ""
        with self._store.lock(target.stage, fingerprint, lambda: self._say(target, EventKind.WAITING)):
            if not self._store.path(target.stage, fingerprint).is_dir():
                return False
            self._live.pin(entry_name(target.stage, fingerprint))
            self._store.tidy(target.stage, fingerprint)
            return True

    def build(self, planned: Planned, states: States) -> Built:
        """Build a target whose inputs are all decided. Raises an `EdgeftError` that names what went wrong, or
        `Stop`."""
        target, fingerprint = planned.target, planned.fingerprint
        assert fingerprint is not None
        began = time.monotonic()
        try:
            with self._store.lock(target.stage, fingerprint, lambda: self._say(target, EventKind.WAITING)) as waited:
                self._live.pin(entry_name(target.stage, fingerprint))
                if waited or not self._planner.options.force:
                    self._store.take_up(target.stage, fingerprint)
                    found = self._store.find(target.stage, fingerprint).artifact
                    if found is not None:
                        self._store.tidy(target.stage, fingerprint)
                        return Built(found, _ELSEWHERE if waited else _FINISHED)
                return Built(self._make(planned, states, fingerprint))
        except Exception as error:
            self._interrupts.check()
            raise named(error, target, self._store.folder) from error
        finally:
            if time.monotonic() - began > _WORTH_COLLECTING:
                gc.collect()  # models refer to themselves in circles; the next stage needs their memory

    def _make(self, planned: Planned, states: States, fingerprint: str) -> Artifact:
        target = planned.target
        row = lookup(self._project.stages, target.stage, "stage")
        stage = row.load()
        inputs = self._inputs(planned, states)
        fresh = self._planner.options.from_scratch or self._planner.options.force
        folder, scratch = self._store.begin(target.stage, fingerprint, fresh=fresh)
        try:
            work = Work(folder, scratch, self._listener(target), lambda text: self._warn(target, text))
            outcome, measured = run_measured(stage, target.params, inputs, work)
            self._interrupts.check()  # a stage that swallowed the signal may have stopped half-way
            self._check_sources(planned)
            return self._store.commit(
                outcome,
                measured,
                stage=target.stage,
                fingerprint=fingerprint,
                params=target.params.model_dump(mode="json"),
                inputs=recorded_inputs(inputs, planned.components.sources if planned.components else {}, target),
                environment=environment(),
            )
        except BaseException:
            self._store.abandon(target.stage, fingerprint)
            raise

    def _inputs(self, planned: Planned, states: States) -> Inputs:
        target = planned.target
        roles = planned.components.inputs if planned.components else {}
        given: dict[str, Artifact] = {}
        for role in roles:
            found = states[target.inputs[role]].artifact
            assert found is not None
            given[role] = found
        models, base = self._project.models, self._project.base
        return Inputs(given, {role: locate(source, base, models) for role, source in target.sources.items()})

    def _check_sources(self, planned: Planned) -> None:
        """A source that changed while the stage read it: the fingerprint would name content that was not read."""
        for role, source in planned.target.sources.items():
            now = digest_source(source, base=self._project.base, models=self._project.models, cache=self._planner.cache)
            if planned.components is not None and planned.components.sources[role]["digest"] != now.digest:
                raise InputError("this changed while it was being read", where=source.ref, do="run again")

    def _listener(self, target: Target) -> Listener:
        def listen(progress: Progress) -> None:
            self._interrupts.check()
            self._events(Event(EventKind.PROGRESS, target.name, target.stage, progress=progress))

        return listen

    def _warn(self, target: Target, text: str) -> None:
        self._say(target, EventKind.WARNING, text)

    def _say(self, target: Target, kind: EventKind, message: str = "") -> None:
        if kind is EventKind.WAITING:
            message = "another run is building the same thing; waiting for it"
        self._events(Event(kind, target.name, target.stage, message=message))


def run_measured(stage: Any, params: Any, inputs: Inputs, work: Work) -> tuple[artifacts.Outcome, dict[str, Any]]:
    """Run a stage; its outcome and the measurements (the stage's own win over seconds and peak memory taken here)."""
    meter = Meter()
    outcome = stage.run(params, inputs, work)
    if not isinstance(outcome, artifacts.Outcome):
        raise TypeError(f"the stage returned {type(outcome).__name__}, not an Outcome")
    return outcome, {**meter.read(), **outcome.measurements}


def locate(source: Source, base: Path, models: Models) -> Path:
    """The local path of a source; a hub model or dataset that is not cached is downloaded."""
    if source.kind == "model":
        return models.resolve(source.ref, relative_to=base)
    if source.kind == "rows":
        return datafiles.resolve(source.ref, relative_to=base)
    return source_path(source, base)


def recorded_inputs(inputs: Inputs, sources: Mapping[str, Mapping[str, Any]], target: Target) -> dict[str, Any]:
    """What `artifact.json` says an artifact was made of: artifacts and sources by role."""
    made_of: dict[str, Any] = {
        role: {
            "target": target.inputs.get(role, ""),
            "kind": given.kind,
            "fingerprint": given.fingerprint,
            "digest": given.digest,
        }
        for role, given in inputs.artifacts.items()
    }
    for role, source in sources.items():
        made_of[role] = {"target": "", "kind": source["kind"], "ref": source["ref"], "digest": source["digest"]}
    return made_of


def named(error: Exception, target: Target, where: Path) -> EdgeftError:
    """Any exception of a stage as an `EdgeftError`; the traceback stays reachable as its cause."""
    if isinstance(error, EdgeftError):
        return error
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return EdgeftError(
            f"the machine ran out of memory in {target.name}: {_first_line(error) or 'no memory left'}",
            do="close other programs, or use a smaller batch, sequence length or base model",
        )
    if isinstance(error, OSError):
        mapped = storage_error(error, where)
        if mapped is not None:
            return mapped
    if os.strerror(errno.ENOSPC).lower() in str(error).lower():  # libraries that wrap the system's error in their own
        return StorageError("the disk is full", where=where, do="free some space and run again")
    return EdgeftError(
        f"{target.name} failed: {type(error).__name__}: {_first_line(error)}",
        do="run again with --debug for the traceback",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else ""


def run_stage(
    row: Row,
    params: Any,
    out: Path,
    *,
    name: str,
    artifacts_in: Mapping[str, Artifact] | None = None,
    sources: Mapping[str, Path] | None = None,
    listen: Listener = silent,
    warn: Callable[[str], None] = lambda message: None,
) -> Artifact:
    """Run one stage into the folder `out`, without a recipe or a store: the commands that work on folders.

    `name` is the stage kind. Written beside `out` first and renamed; an `InputError` when `out` is there already.
    The artifact's fingerprint is the digest of kind, version, parameters and the inputs' digests (sources by path).
    """
    if out.exists():
        raise InputError("this is there already", where=out, do="choose another folder or remove it")
    target = Target(name=name, stage=name, params=params)
    stage = row.load()
    given = Inputs(dict(artifacts_in or {}), dict(sources or {}))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    scratch = out.with_name(f".{out.name}.{os.getpid()}.scratch")
    made_of = recorded_inputs(given, {}, target)
    made_of |= {role: {"target": "", "kind": "path", "ref": str(path)} for role, path in given.sources.items()}
    parts = {"stage": name, "version": stage.VERSION, "params": params.model_dump(mode="json"), "inputs": made_of}
    try:
        files.remove_tree(partial)
        partial.mkdir(parents=True)
        scratch.mkdir(exist_ok=True)
        with interrupts() as signals:
            outcome, measured = run_measured(stage, params, given, Work(partial, scratch, listen, warn))
            signals.check()
        artifacts.finish(
            partial,
            replace(outcome, measurements=measured),
            stage=name,
            fingerprint=files.digest_text(files.canonical_json(parts)),
            params=parts["params"],
            inputs=made_of,
            environment=environment(),
        )
        partial.rename(out)
        files.sync_folder(out.parent)
        return artifacts.load(out)
    except KeyboardInterrupt:
        raise Interrupted from None
    except Exception as error:
        raise named(error, target, out.parent) from error
    finally:
        for folder in (partial, scratch):
            files.remove_tree(folder)
