"""What can be wrong with a dataset's rows: each kind, how it is told, and what to do about it.

A pass over the data collects `Fault`s; `errors_of` turns them into one `DataError` per kind and file, counted, the
first places named. Used by `edgeft.data.rows` and `edgeft.data.tokens`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeft.errors import DataError, Errors, Location

_NAMED = 5  # places of one kind that are listed

# kind -> what to do
FAULTS: dict[str, str] = {
    "missing file": "check the path; relative ones start at the recipe",
    "unreadable file": "check the path and its permissions",
    "compressed": "the file ends in .gz but is damaged or no gzip file",
    "pointer": "run: git lfs pull",
    "not utf-8": "save the file as UTF-8",
    "broken json": "write one complete JSON object per line",
    "not an object": "write one JSON object per line",
    "wrong form": "check the row, or the `type` of this dataset in the recipe",
    "unknown role": "use system, user and assistant",
    "bad content": "write each turn's content as a text",
    "empty content": "fill it in, or remove the row",
    "bad characters": "remove them: they are halves of a broken Unicode pair",
    "wrong order": "one system turn at most and first, then user and assistant in turns, the assistant last",
    "no assistant turn": "add the answer that the model should learn, or remove the row",
    "special token": "remove it: the model would take it for the end of a turn",
    "refused by template": "mend the row, or choose another chat_template",
    "nothing to train": "check roles_to_train and sequence_len",
    "empty dataset": "a dataset needs at least one row",
}


class BadRow(ValueError):
    """A row that cannot be used: a kind of `FAULTS` and the particulars."""

    def __init__(self, kind: str, detail: str) -> None:
        assert kind in FAULTS, kind
        self.kind, self.detail = kind, detail
        super().__init__(detail)


@dataclass(frozen=True)
class Fault:
    """One bad row (or file): a kind of `FAULTS`, where, and the particulars."""

    kind: str
    where: Location
    detail: str


def errors_of(faults: Iterable[Fault]) -> list[DataError]:
    """One error per file and kind, in the order of their first places; each counts its rows and lists the first."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.where.file, fault.kind), []).append(fault)
    errors = []
    for (_, kind), found in groups.items():
        what = found[0].detail
        if len(found) > 1:
            lines = ", ".join(str(fault.where.line) for fault in found[:_NAMED])
            what += f" ({len(found)} such rows: lines {lines}{', …' if len(found) > _NAMED else ''})"
        errors.append(DataError(what, where=found[0].where, do=FAULTS[kind]))
    return errors


def raise_faults(faults: Iterable[Fault]) -> None:
    """Raise what was found, if anything: one `DataError`, or `Errors` of several."""
    errors = errors_of(faults)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Errors(errors)
