"""What is asked of a runtime: named rows (a conversation and the answer expected next), metrics, the longest answer.

Used by the `eval` and `verify` stages. A suite comes from rows of a dataset artifact, from a JSONL file of
conversations, or from what is packaged with edgeft: general skills (`builtin:general`), which measure what tuning made
a model forget, and neutral texts (`builtin:text`), whose loss says the same of language at large.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import DataError, Errors, InputError, Location
from edgeft.evals import metrics as metric_table
from edgeft.files import read_jsonl
from edgeft.registry import lookup, suggestion
from edgeft.runtimes.protocol import Message

GENERAL = Path(__file__).parent / "general"
BUILTIN_PREFIX = "builtin:"
TEXT = Path(__file__).parent / "text"
BUILTINS = {"general": GENERAL, "text": TEXT}
MAX_TOKENS = 128


@dataclass(frozen=True)
class Case:
    """One question: the conversation so far, the answer that is expected next, and the family it belongs to."""

    id: str
    messages: tuple[Message, ...]
    expected: str
    group: str = ""


@dataclass(frozen=True)
class Suite:
    name: str
    cases: tuple[Case, ...]
    metrics: tuple[str, ...]
    max_tokens: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if not self.cases:
            raise InputError(f"the suite {self.name!r} has no rows")
        for metric in self.metrics:
            lookup(metric_table.METRICS, metric, "metric")
        seen: set[str] = set()
        for case in self.cases:
            if case.id in seen:
                raise DataError(f"the suite {self.name!r} has two rows with the id {case.id!r}")
            seen.add(case.id)


def from_rows(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    metrics: Sequence[str],
    max_tokens: int = MAX_TOKENS,
    limit: int | None = None,
) -> Suite:
    """A suite of rows {"id", "messages", "group"?} whose last message is the assistant's: the answer expected.

    `limit` keeps that many rows, spread evenly over all of them. `Errors` when rows are not of that form.
    """
    cases, errors = [], []
    for number, row in enumerate(rows, 1):
        fault = _fault(row)
        if fault:
            errors.append(DataError(f"suite {name!r}: {fault}", where=Location(str(row.get("id", f"row {number}")))))
            continue
        *prompt, last = row["messages"]
        identity = str(row.get("id", number))
        cases.append(Case(identity, tuple(prompt), last["content"], str(row.get("group", ""))))
    if errors:
        raise Errors(errors)
    return Suite(name, tuple(_spread(cases, limit)), tuple(metrics), max_tokens)


def from_jsonl(
    name: str,
    path: Path,
    *,
    metrics: Sequence[str],
    max_tokens: int = MAX_TOKENS,
    limit: int | None = None,
) -> Suite:
    """A suite of a user's JSONL file of {"messages": […]} rows. `DataError` with file:line for what cannot be read."""
    return from_rows(name, _read(path), metrics=metrics, max_tokens=max_tokens, limit=limit)


def builtin(
    name: str,
    ref: str,
    *,
    metrics: Sequence[str],
    max_tokens: int = MAX_TOKENS,
    limit: int | None = None,
) -> Suite:
    """A packaged suite, `ref` being "builtin:NAME"; each of its files is one family, kept as the rows' group."""
    known = ref.removeprefix(BUILTIN_PREFIX)
    if known not in BUILTINS:
        raise InputError(f"there is no built-in suite {known!r}", do=suggestion(known, BUILTINS))
    rows = [
        {**row, "id": f"{path.stem}:{number}", "group": path.stem}
        for path in builtin_files(ref)
        for number, row in enumerate(read_jsonl(path), 1)
    ]
    return from_rows(name, rows, metrics=metrics, max_tokens=max_tokens, limit=limit)


def builtin_files(ref: str) -> list[Path]:
    """The files of a packaged suite, one per family, sorted by name."""
    return sorted(BUILTINS[ref.removeprefix(BUILTIN_PREFIX)].glob("*.jsonl"))


def _spread(cases: list[Case], limit: int | None) -> list[Case]:
    if limit is None or limit >= len(cases):
        return cases
    return [cases[i * len(cases) // limit] for i in range(limit)]


def _fault(row: Mapping[str, Any]) -> str | None:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        return "a row needs at least a question and its answer under 'messages'"
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            return "a message needs a 'role' and a text 'content'"
    return None if messages[-1]["role"] == "assistant" else "the last message must be the assistant's expected answer"


def _read(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the suite cannot be read ({error})", where=path) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=Location(str(path), number, error.colno)) from None
        if not isinstance(row, dict):
            raise DataError("a row must be a JSON object", where=Location(str(path), number))
        yield {"id": f"{path.name}:{number}", **row}
