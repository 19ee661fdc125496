"""Targets as a checked graph: who needs whom, which are asked for, and in which order they are built.

Called by `plan` and `runner`; knows nothing of stages or files.
"""

from __future__ import annotations

import fnmatch
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence

from edgeft.errors import InputError, UsageError
from edgeft.pipeline.stage import Target
from edgeft.registry import suggestion

_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")  # becomes a file name below build/


class Graph:
    """The targets of a recipe, in recipe order, with every reference resolved and no cycle.

    An `InputError` names a duplicate, a name that cannot be a file name, an unknown reference or a cycle.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets: Mapping[str, Target] = {target.name: target for target in targets}
        self._index = {target.name: number for number, target in enumerate(targets)}
        _check_names(targets)
        for target in targets:
            _check_references(target, self.targets)
        self._needs: dict[str, tuple[str, ...]] = {name: _direct(target) for name, target in self.targets.items()}
        self._sorted = self._sort(self.targets)  # finds cycles in what the recipe says …
        self._await_judges()
        self._sorted = self._sort(self.targets)  # … before the edges that follow from judges join

    def __getitem__(self, name: str) -> Target:
        return self.targets[name]

    def needs(self, name: str) -> tuple[str, ...]:
        """What must have passed before this target: its inputs, its `after`, and the judges of its inputs."""
        return self._needs[name]

    def select(self, names: Iterable[str] = ()) -> frozenset[str]:
        """The targets asked for with all they need and all their judges. No names: the default targets.

        A name is a target, a glob pattern ("export.*"), or the first part of dotted names ("export"). A `UsageError`
        when it matches nothing.
        """
        wanted = [name for pattern in names for name in self._match(pattern)]
        if not wanted:
            wanted = [name for name, target in self.targets.items() if target.default]
        chosen: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name in chosen:
                continue
            chosen.add(name)
            wanted.extend(self._needs[name])
            judge = self.targets[name].judged_by
            if judge is not None:
                wanted.append(judge)
        return frozenset(chosen)

    def order(self, selection: Iterable[str] | None = None) -> list[Target]:
        """The selected targets, each after what it needs, otherwise as the recipe has them; lenient ones last."""
        chosen = self.targets.keys() if selection is None else set(selection)
        return [self.targets[name] for name in self._sorted if name in chosen]

    def dependents(self, name: str) -> frozenset[str]:
        """Every target that needs this one, directly or not."""
        found: set[str] = set()
        for other in self._sorted:
            if any(need == name or need in found for need in self._needs[other]):
                found.add(other)
        return frozenset(found)

    def _all_needs(self, name: str) -> set[str]:
        """Everything a target needs, directly or not."""
        found: set[str] = set()
        wanted = [name]
        while wanted:
            more = [need for need in self._needs[wanted.pop()] if need not in found]
            found.update(more)
            wanted.extend(more)
        return found

    def _match(self, pattern: str) -> list[str]:
        if pattern in self.targets:
            return [pattern]
        found = [name for name in self.targets if fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern + ".")]
        if not found:
            raise UsageError(f"the recipe has no target {pattern!r}", do=suggestion(pattern, self.targets))
        return found

    def _await_judges(self) -> None:
        """Who reads a judged target waits for its judge too, unless the judge itself needs the reader."""
        for name, target in self.targets.items():
            judges = [self.targets[need].judged_by for need in target.inputs.values()]
            waits = [judge for judge in judges if judge is not None and judge != name]
            if target.lenient or not waits:
                continue
            extra = [judge for judge in waits if name not in self._all_needs(judge) and judge not in self._needs[name]]
            self._needs[name] = (*self._needs[name], *dict.fromkeys(extra))

    def _sort(self, names: Iterable[str]) -> list[str]:
        """Kahn's algorithm with a heap, so that the order is the recipe's wherever the edges leave a choice."""
        pending = {name: set(self._needs[name]) for name in names}
        waiting: dict[str, list[str]] = {}
        for name, needs in pending.items():
            for need in needs:
                waiting.setdefault(need, []).append(name)
        ready = [self._key(name) for name, needs in pending.items() if not needs]
        heapq.heapify(ready)
        done: list[str] = []
        while ready:
            name = heapq.heappop(ready)[2]
            done.append(name)
            for other in waiting.get(name, ()):
                pending[other].discard(name)
                if not pending[other]:
                    heapq.heappush(ready, self._key(other))
        if len(done) < len(pending):
            raise InputError(f"the targets form a circle: {' → '.join(self._circle(set(pending) - set(done)))}")
        return done

    def _key(self, name: str) -> tuple[bool, int, str]:
        return (self.targets[name].lenient, self._index[name], name)

    def _circle(self, left: set[str]) -> list[str]:
        """One cycle among targets that could not be sorted: follow needs until a name comes back."""
        path = [min(left, key=lambda name: self._index[name])]
        while True:
            step = next(need for need in self._needs[path[-1]] if need in left)
            if step in path:
                return [*path[path.index(step) :], step]
            path.append(step)


def _direct(target: Target) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*target.inputs.values(), *target.after)))


def _check_names(targets: Sequence[Target]) -> None:
    seen: set[str] = set()
    for target in targets:
        if not _NAME.match(target.name):
            raise InputError(f"{target.name!r} cannot be a target's name", do="use letters, digits, '.', '_', '+', '-'")
        if target.name in seen:
            raise InputError(f"there are two targets named {target.name!r}")
        seen.add(target.name)


def _check_references(target: Target, known: Mapping[str, Target]) -> None:
    references = [*target.inputs.values(), *target.after, *([target.judged_by] if target.judged_by else [])]
    for name in references:
        if name not in known:
            raise InputError(f"target {target.name!r} needs {name!r}, which does not exist", do=suggestion(name, known))
    if target.judged_by == target.name:
        raise InputError(f"target {target.name!r} judges itself")
