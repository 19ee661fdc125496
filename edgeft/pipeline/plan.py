"""What would run, and why. `plan`, `run -n` and the real run all ask the same function: `Planner.decide`.

Light: it reads small JSON files and, the first time, the bytes of the sources; it writes nothing but the digest cache.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError, Errors, InputError
from edgeft.files import canonical_json, digest_text
from edgeft.pipeline.digests import DigestCache, SourceDigest, digest_source
from edgeft.pipeline.events import Reason, Status
from edgeft.pipeline.fingerprint import Components, canonical_params, differences
from edgeft.pipeline.graph import Graph
from edgeft.pipeline.known import Entry, Known
from edgeft.pipeline.project import Options, Project
from edgeft.pipeline.stage import Target
from edgeft.pipeline.store import Store
from edgeft.registry import Row, lookup


@dataclass(frozen=True)
class Planned:
    """One target of a plan.

    fingerprint  None while an input or a source is not known yet
    artifact     the whole artifact in the store, when there is one (also one that is built again because of -B)
    resumes      an interrupted build left something that this one goes on from
    """

    target: Target
    status: Status
    reasons: tuple[Reason, ...] = ()
    fingerprint: str | None = None
    components: Components | None = None
    artifact: Artifact | None = None
    resumes: bool = False

    @property
    def will_run(self) -> bool:
        return self.status in (Status.WILL_RUN, Status.MAY_RUN)


@dataclass(frozen=True)
class State:
    """How it stands with a target that comes earlier in the order."""

    status: Status
    artifact: Artifact | None = None

    @property
    def pending(self) -> bool:
        return self.status in (Status.WILL_RUN, Status.MAY_RUN)


States = Mapping[str, State]


def plan(targets: Sequence[Target], project: Project, options: Options | None = None) -> list[Planned]:
    """What `run` with the same arguments would do, in its order, without doing it.

    Raises `InputError` for a graph that is none, `UsageError` for a name that matches no target, and `Errors` with
    every source that is not there or cannot be read.
    """
    planner = Planner(targets, project, options or Options())
    planned = planner.plan()
    planner.cache.save()
    return planned


class Planner:
    """Decides target by target. `built` collects fingerprints built by this run, which -B does not build twice."""

    def __init__(self, targets: Sequence[Target], project: Project, options: Options) -> None:
        self.graph = Graph(targets)
        self.project = project
        self.options = options
        self.cache = DigestCache(project.home / "digests.json")
        self.store = Store(project.home, self.cache)
        self.known = Known(project.home, project.recipe.name)
        self.order = self.graph.order(self.graph.select(options.names))
        self.built: set[str] = set()

    def plan(self) -> list[Planned]:
        states: dict[str, State] = {}
        planned: list[Planned] = []
        faults: dict[str, EdgeftError] = {}
        for target in self.order:
            try:
                decision = self.decide(target, states)
            except InputError as error:
                faults.setdefault(str(error), error)
                decision = Planned(target, Status.MAY_RUN)
            planned.append(decision)
            states[target.name] = State(decision.status, decision.artifact)
        if len(faults) == 1:
            raise next(iter(faults.values()))
        if faults:
            raise Errors(list(faults.values()))
        return planned

    def decide(self, target: Target, states: States) -> Planned:
        """Whether a target runs and why, given how it stands with those before it. Raises `InputError` for a source
        that is not there. With every earlier target decided for good (in a run), the answer is never "may run"."""
        row = lookup(self.project.stages, target.stage, "stage")
        if not target.lenient:
            blocked = self._blocked(target, states)
            if blocked is not None:
                return blocked
        entry = self.known.get(target.name)
        sources = {role: self._digest(source) for role, source in target.sources.items()}
        inputs = {role: name for role, name in target.inputs.items() if self._there(target, states[name])}
        pending = [
            *(Reason("pending", f"input {name} will be rebuilt") for name in inputs.values() if states[name].pending),
            *(
                Reason("download", f"base model {found.source.ref} will be {found.comes}")
                for found in sources.values()
                if found.digest is None
            ),
        ]
        components = _components(target, row, inputs, states, sources)
        if pending:
            return self._pending(target, entry, components, list(dict.fromkeys(pending)))
        return self._settled(target, entry, components)

    def _digest(self, source: Any) -> SourceDigest:
        return digest_source(source, base=self.project.base, models=self.project.models, cache=self.cache)

    def _there(self, target: Target, state: State) -> bool:
        return not target.lenient or state.pending or state.artifact is not None

    def _blocked(self, target: Target, states: States) -> Planned | None:
        """Whether something this target needs failed, did not pass, or was not run."""
        needs = {name: states[name].status for name in self.graph.needs(target.name)}
        phrases = {
            Status.FAILED: "failed",
            Status.FAILED_VERDICT: "did not pass",
            Status.BLOCKED: "is blocked",
            Status.INTERRUPTED: "was interrupted",
        }
        reasons = tuple(Reason("blocked", f"{name} {phrases[now]}") for name, now in needs.items() if now in phrases)
        if reasons:
            return Planned(target, Status.BLOCKED, reasons)
        missing = [name for name, now in needs.items() if now == Status.NOT_RUN]
        if missing:
            return Planned(target, Status.NOT_RUN, tuple(Reason("blocked", f"{name} was not run") for name in missing))
        return None

    def _pending(self, target: Target, entry: Entry, components: Components, pending: list[Reason]) -> Planned:
        """An input or source is not known yet: it runs for sure when something else changed too."""
        sure: list[Reason] = []
        if self.options.force:
            sure = [Reason("forced", "forced (-B)")]
        elif entry.components is None:
            sure = [Reason("never", "never built")]
        else:
            known = {role for role, found in components.sources.items() if found["digest"] is None}
            known |= {role for role, found in components.inputs.items() if found["digest"] is None}
            sure = [
                reason
                for reason in differences(_without(entry.components, known), _without(components, known))
                if reason.kind != "input"
            ]
        status = Status.WILL_RUN if sure else Status.MAY_RUN
        if self.options.lenient_only and not target.lenient:
            status = Status.NOT_RUN
        return Planned(target, status, (*sure, *pending), None, components)

    def _settled(self, target: Target, entry: Entry, components: Components) -> Planned:
        """Everything is known: look into the store."""
        fingerprint = components.fingerprint()
        found = self.store.find(target.stage, fingerprint)
        forced = self.options.force and fingerprint not in self.built
        if found.artifact is not None and not forced:
            return _up_to_date(target, entry, components, fingerprint, found.artifact)
        reasons = [Reason("forced", "forced (-B)")] if forced else []
        if found.problem:
            reasons.append(Reason("damaged", f"its artifact is damaged: {found.problem}"))
        elif found.artifact is None:
            reasons.extend(_why(entry, components, fingerprint))
        resumes = not forced and not self.options.from_scratch and self.store.has_scratch(target.stage, fingerprint)
        if entry.attempt is not None and entry.attempt.fingerprint == fingerprint and found.artifact is None:
            reasons.extend(_ended(entry.attempt.status, resumes))
        status = Status.WILL_RUN
        if self.options.lenient_only and not target.lenient:
            status = Status.NOT_RUN
        return Planned(target, status, tuple(reasons), fingerprint, components, found.artifact, resumes)


def stage_of(row: Row) -> Any:
    """A row's stage module, without asking whether its extra is installed: reading VERSION needs none."""
    module, _, attribute = row.target.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def input_digest(artifact: Artifact) -> str:
    """What a reader of an artifact depends on: its reproducible files and its facts."""
    return digest_text(canonical_json({"digest": artifact.digest, "facts": dict(artifact.facts)}))


def _components(
    target: Target, row: Row, inputs: Mapping[str, str], states: States, sources: Mapping[str, SourceDigest]
) -> Components:
    """The parts of the fingerprint; a digest that is not known yet is None (and then no fingerprint is taken)."""
    digests = {}
    for role, name in inputs.items():
        state = states[name]
        known = None if state.pending or state.artifact is None else input_digest(state.artifact)
        digests[role] = {"target": name, "digest": known}
    return Components(
        stage=target.stage,
        version=int(stage_of(row).VERSION),
        params=canonical_params(target.params),
        inputs=digests,
        sources={role: found.component() for role, found in sources.items()},
    )


def _without(components: Components, roles: set[str]) -> Components:
    return Components(
        components.stage,
        components.version,
        components.params,
        {role: entry for role, entry in components.inputs.items() if role not in roles},
        {role: entry for role, entry in components.sources.items() if role not in roles},
    )


def _up_to_date(target: Target, entry: Entry, components: Components, fingerprint: str, artifact: Artifact) -> Planned:
    reasons: list[Reason] = []
    if entry.components is not None and entry.components.fingerprint() != fingerprint:
        reasons = [Reason("found", "found in the store"), *differences(entry.components, components)]
    elif entry.components is None:
        reasons = [Reason("found", "found in the store")]
    if not artifact.passed:
        verdict = Reason("verdict", "did not pass")
        return Planned(target, Status.FAILED_VERDICT, (verdict, *reasons), fingerprint, components, artifact)
    return Planned(target, Status.UP_TO_DATE, tuple(reasons), fingerprint, components, artifact)


def _why(entry: Entry, components: Components, fingerprint: str) -> list[Reason]:
    """Why there is no artifact of this fingerprint."""
    if entry.components is None:
        return [Reason("never", "never built")]
    changed = differences(entry.components, components)
    if changed:
        return changed
    return [Reason("missing", "its artifact is missing")]


def _ended(status: Status | None, resumes: bool) -> list[Reason]:
    """How the last attempt at this very fingerprint ended."""
    if status == Status.FAILED:
        return [Reason("failed", "failed last time")]
    if status is None or status == Status.INTERRUPTED:
        return [Reason("interrupted", f"was interrupted{': goes on from there' if resumes else ''}")]
    return []
