"""What can be wrong with a dataset's rows: each kind, the check it belongs to, how it is told, what to do about it.

A pass over the data hands every `Fault` to one `Tally`, which keeps counts and the first places, not the rows;
`Tally.errors` are one `DataError` per kind and file. Used by `edgeft.data.rows`, `prepare` and by `edgeft check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgeft.errors import DataError, Errors, Location

_NAMED = 5  # places of one kind that are listed


class Kind(NamedTuple):
    """What to do about it, and the check whose policy decides; None: of a whole file, always an error."""

    do: str
    check: str | None = None


FAULTS: dict[str, Kind] = {
    "missing file": Kind("check the path; relative ones start at the recipe"),
    "unreadable file": Kind("check the path and its permissions"),
    "compressed": Kind("the file ends in .gz or .zst but is damaged or no such file"),
    "pointer": Kind("run: git lfs pull"),
    "unknown ending": Kind("known endings: .jsonl .ndjson .json .csv .tsv .parquet .arrow, also with .gz or .zst"),
    "empty dataset": Kind("a dataset needs at least one row"),
    "unknown form": Kind("name it with `type`, or say which fields are meant with `fields`"),
    "not utf-8": Kind("save the file as UTF-8", "broken"),
    "broken json": Kind("write one complete JSON object per line", "broken"),
    "broken table": Kind(
        "give each line as many fields as the header has; quote text that holds the separator", "broken"
    ),
    "not an object": Kind("write one JSON object per line", "broken"),
    "wrong form": Kind("check the row, or the `type` of this dataset in the recipe", "broken"),
    "unknown role": Kind("use system, user, assistant and tool", "broken"),
    "bad content": Kind("write each turn's content as a text", "broken"),
    "mixed forms": Kind("check the row, or the `type` of this dataset in the recipe", "mixed_forms"),
    "empty content": Kind("fill it in, or remove the row", "empty_turns"),
    "no assistant turn": Kind("add the answer that the model should learn, or remove the row", "empty_turns"),
    "wrong order": Kind(
        "one system turn at most and first, then user and assistant in turns, the assistant last", "role_order"
    ),
    "bad characters": Kind("remove them: they are halves of a broken Unicode pair", "characters"),
    "control characters": Kind("remove them, or say so: data.checks.characters: drop or keep", "characters"),
    "secret": Kind("remove it and revoke it, or say so: data.checks.secrets: drop or keep", "secrets"),
    "special token": Kind("remove it: the model would take it for the end of a turn", "special_tokens"),
    "refused by template": Kind("mend the row, or choose another chat_template", "template"),
    "nothing to train": Kind("check roles_to_train and sequence_len", "untrained"),
    "duplicate": Kind("remove it, or say so: data.checks.duplicates: drop or keep", "duplicates"),
    "near duplicate": Kind("remove it, or say so: data.checks.near_duplicates: drop or keep", "near_duplicates"),
    "leak": Kind("remove it from one side, or say so: data.checks.leakage: drop or keep", "leakage"),
    "near leak": Kind("remove it from one side, or say so: data.checks.near_leakage: drop or keep", "near_leakage"),
    "too long": Kind("raise sequence_len, or say so: data.checks.too_long: drop or truncate", "too_long"),
    "imbalance": Kind("add rows of the rare label, or say so: data.checks.imbalance: keep", "imbalance"),
    "unknown label": Kind("add training rows of it, or name it in data.labels", "broken"),
}
# Check -> what happens without a word in the recipe; its own schema says the same (a test compares).
POLICIES: dict[str, str] = {
    "broken": "error",
    "empty_turns": "error",
    "role_order": "error",
    "mixed_forms": "error",
    "characters": "error",
    "secrets": "error",
    "special_tokens": "error",
    "template": "error",
    "untrained": "error",
    "duplicates": "keep",
    "near_duplicates": "keep",
    "leakage": "drop",
    "near_leakage": "keep",
    "too_long": "drop",
    "imbalance": "keep",
}
_NEVER_KEPT = ("bad characters",)  # they cannot even be written


class BadRow(ValueError):
    """A row that cannot be used: a kind of `FAULTS` and the particulars."""

    def __init__(self, kind: str, detail: str, column: int = 0) -> None:
        assert kind in FAULTS, kind
        self.kind, self.detail, self.column = kind, detail, column
        super().__init__(detail)


@dataclass(frozen=True)
class Fault:
    """One bad row (or file): a kind of `FAULTS`, where, and the particulars."""

    kind: str
    where: Location
    detail: str


@dataclass
class _Group:
    """The faults of one kind in one file: the first, how many, and the first lines."""

    first: Fault
    rows: int = 0
    lines: list[int] = field(default_factory=list)


class Tally:
    """Counts of faults by check, and what becomes of each by its policy."""

    def __init__(self, policies: Mapping[str, str] = POLICIES) -> None:
        self._policies = {**POLICIES, **policies}
        self._groups: dict[tuple[str, str], _Group] = {}
        self._dropped: dict[str, int] = {}

    def policy(self, kind: str) -> str:
        """ "error", "drop", "keep", "truncate" or "skip": what happens to a row with this kind of fault."""
        check = FAULTS[kind].check
        policy = self._policies[check] if check else "error"
        return "error" if policy == "keep" and kind in _NEVER_KEPT else policy

    def add(self, fault: Fault) -> str:
        """Count a fault; its policy."""
        group = self._groups.setdefault((fault.where.file, fault.kind), _Group(fault))
        group.rows += 1
        if len(group.lines) < _NAMED:
            group.lines.append(fault.where.line)
        policy = self.policy(fault.kind)
        if policy == "drop":
            check = FAULTS[fault.kind].check or ""
            self._dropped[check] = self._dropped.get(check, 0) + 1
        return policy

    def errors(self) -> list[DataError]:
        """One error per file and kind whose policy is error, in the order of their first places."""
        return [self._error(kind, group) for (_, kind), group in self._groups.items() if self.policy(kind) == "error"]

    def raise_errors(self) -> None:
        """Raise what was found, if anything: one `DataError`, or `Errors` of several."""
        errors = self.errors()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise Errors(errors)

    def table(self) -> dict[str, Any]:
        """What stats.json keeps under "checks": by check its policy, the rows found, how many of them were left out,
        and the first places of each kind."""
        found: dict[str, Any] = {
            check: {"policy": policy, "rows": 0, "dropped": self._dropped.get(check, 0), "examples": []}
            for check, policy in self._policies.items()
        }
        for (file, kind), group in self._groups.items():
            check = FAULTS[kind].check
            if check is None:
                continue
            found[check]["rows"] += group.rows
            if len(found[check]["examples"]) < _NAMED:
                places = [f"{file}:{line}" for line in group.lines]
                found[check]["examples"].append({"kind": kind, "what": group.first.detail, "where": places})
        return found

    def _error(self, kind: str, group: _Group) -> DataError:
        what = group.first.detail
        if group.rows > 1:
            lines = ", ".join(map(str, group.lines))
            what += f" ({group.rows} such rows: lines {lines}{', …' if group.rows > len(group.lines) else ''})"
        return DataError(what, where=group.first.where, do=FAULTS[kind].do)
