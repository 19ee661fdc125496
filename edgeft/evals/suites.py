"""What is asked of a runtime: named rows (a conversation and the answer expected next), metrics, the longest answer.

Used by the `eval` and `verify` stages. A suite has a kind: `generation` (an answer is written), `choice` (the likeliest
of several answers), `pairs` (the better of two answers must be the likelier), `perplexity` (how likely a text is),
`classification` (a head's label). It comes from rows of a dataset artifact, from a JSONL file of
conversations, or from what is packaged with edgeft: general skills (`builtin:general`), which measure what tuning made
a model forget, and neutral texts (`builtin:text`), whose loss says the same of language at large.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.errors import DataError, Errors, InputError, Location
from edgeft.evals import metrics as metric_table
from edgeft.evals.questions import Case as Case
from edgeft.evals.questions import case_of
from edgeft.files import read_jsonl
from edgeft.registry import suggestion

GENERAL = Path(__file__).parent / "general"
BUILTIN_PREFIX = "builtin:"
TEXT = Path(__file__).parent / "text"
BUILTINS = {"general": GENERAL, "text": TEXT}
MAX_TOKENS = 128
KINDS = tuple(metric_table.DEFAULTS)


@dataclass(frozen=True)
class Asking:
    """How the rows of a suite are asked.

    system      said first, in rows that have no system turn of their own
    few_shot    answered examples before each question: how many
    shots       the rows they are taken from; none: the suite's own, each row's own left out
    seed        which ones
    stop        texts that end an answer
    chat        False: the plain contents of the turns instead of the model's chat template
    """

    system: str | None = None
    few_shot: int = 0
    shots: tuple[Case, ...] = ()
    seed: int = 0
    stop: tuple[str, ...] = ()
    chat: bool = True


@dataclass(frozen=True)
class Suite:
    name: str
    cases: tuple[Case, ...]
    metrics: tuple[str, ...]
    max_tokens: int = MAX_TOKENS
    kind: str = "generation"
    asking: Asking = field(default_factory=Asking)
    settings: Mapping[str, Any] = field(default_factory=dict)  # of metrics that need some: pattern, schema, judge
    task: str = ""  # of the lm-eval harness, which then has the rows
    limit: int | None = None  # of a harness task, whose rows are not read here

    def __post_init__(self) -> None:
        if self.task:
            return
        if self.kind not in KINDS:
            raise InputError(f"unknown kind of suite {self.kind!r}", do=suggestion(self.kind, KINDS))
        if not self.cases:
            raise InputError(f"the suite {self.name!r} has no rows")
        for metric in self.metrics:
            metric_table.check(metric, self.kind, self.settings, self.name)
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
    limit: int | None = None,
    kind: str = "generation",
    **wanted: Any,
) -> Suite:
    """A suite of rows {"id", "group"?, …}. What else a row holds depends on the kind:

    generation  "messages", the last one the assistant's: the answer expected
    choice      a question ("messages", "prompt" or "question"), "choices", "answer" (a choice or its number from 0)
    pairs       a question, or none, and "good" and "bad" (or "chosen" and "rejected")
    perplexity  "text"
    classification  "text" or a conversation ("messages", "prompt"), and "label"

    `limit` keeps that many rows, spread evenly over all of them; `wanted`: further fields of `Suite`. `Errors` when
    rows are not of that form.
    """
    return Suite(name, tuple(spread(cases_of(name, rows, kind), limit)), tuple(metrics), kind=kind, **wanted)


def cases_of(name: str, rows: Iterable[Mapping[str, Any]], kind: str = "generation") -> list[Case]:
    """The rows of a suite of some kind (see `from_rows`), as questions."""
    cases, errors = [], []
    for number, row in enumerate(rows, 1):
        try:
            cases.append(case_of(row, kind, str(row.get("id", number))))
        except ValueError as error:
            where = Location(str(row.get("id", f"row {number}")))
            errors.append(DataError(f"suite {name!r}: {error}", where=where))
    if errors:
        raise Errors(errors)
    return cases


def builtin(
    name: str,
    ref: str,
    *,
    metrics: Sequence[str],
    **wanted: Any,
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
    return from_rows(name, rows, metrics=metrics, **wanted)


def builtin_files(ref: str) -> list[Path]:
    """The files of a packaged suite, one per family, sorted by name."""
    return sorted(BUILTINS[ref.removeprefix(BUILTIN_PREFIX)].glob("*.jsonl"))


def spread(cases: list[Case], limit: int | None) -> list[Case]:
    """`limit` of the cases, evenly over all."""
    if limit is None or limit >= len(cases):
        return cases
    return [cases[i * len(cases) // limit] for i in range(limit)]


def read_objects(path: Path) -> Iterable[dict[str, Any]]:
    """The objects of a JSONL file, each with an "id" (file:line)."""
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
