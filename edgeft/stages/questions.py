"""A recipe's suite as questions: its rows read, its examples and settings put in. Used by the stages `eval` and
`verify`, and by `edgeft eval`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data.rows import Entry, read_rows
from edgeft.errors import DataError, Errors
from edgeft.evals import suites as sources
from edgeft.pipeline.stage import Inputs
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import LABELLED, SPLITS


def build(name: str, suite: Suite, inputs: Inputs) -> sources.Suite:
    """The suite with its rows: of the dataset artifact, packaged, or of a file (source `suites.NAME`); files that it
    names besides are the sources `suites.NAME.KEY`."""
    settings = {
        "pattern": suite.pattern,
        "schema": _schema(inputs.sources.get(f"suites.{name}.json_schema")),
        "judge": suite.judge.model_dump() if suite.judge else None,
        "window": suite.window,
        "overlap": suite.overlap,
        "include_path": _path(inputs.sources.get(f"suites.{name}.include_path")),
    }
    asking = sources.Asking(
        suite.system,
        suite.few_shot,
        _shots(name, suite, inputs),
        suite.few_shot_seed,
        tuple(suite.stop),
        suite.chat,
        suite.few_shot_multiturn,
    )
    wanted: dict[str, Any] = {"max_tokens": suite.max_tokens, "asking": asking, "settings": settings}
    if suite.task is not None:
        return sources.Suite(name, (), (), task=suite.task, limit=suite.limit, **wanted)
    wanted |= {"metrics": list(suite.metrics), "limit": suite.limit, "kind": suite.kind}
    source = inputs.sources.get(f"suites.{name}")
    if source is not None:
        return sources.from_rows(name, rows_of_file(source, suite.type, suite.kind), **wanted)
    if suite.rows.startswith(sources.BUILTIN_PREFIX):
        return sources.builtin(name, suite.rows, **wanted)
    rows: Iterable[Mapping[str, Any]] = files.read_jsonl(inputs["data"].file(f"{suite.rows}.jsonl"))
    if suite.kind == "perplexity":  # how likely a conversation is that nobody answers: its turns as one text
        rows = ({"text": _text(row), **row} if "messages" in row else row for row in rows)
    return sources.from_rows(name, rows, **wanted)


def rows_of_file(path: Path, form: str | None, kind: str = "generation") -> Iterable[Mapping[str, Any]]:
    """The rows of a user's file for a suite of that kind: of a form that the data stage knows, or JSON objects as they
    are."""
    if form is None:
        return sources.read_objects(path)
    objective = LABELLED if kind == LABELLED else "cpt" if form == "text" else "sft"
    rows, faults = read_rows(Entry(path, form), objective)
    if faults:
        raise Errors(faults)
    return [{"id": row.id, **row.value} for row in rows]


def _path(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _text(row: Mapping[str, Any]) -> str:
    return "\n".join(turn["content"] for turn in row["messages"])


def _shots(name: str, suite: Suite, inputs: Inputs) -> tuple[sources.Case, ...]:
    where = suite.few_shot_rows
    if not suite.few_shot or where is None:
        return ()
    if where in ("train", *SPLITS):
        rows: Iterable[Mapping[str, Any]] = files.read_jsonl(inputs["data"].file(f"{where}.jsonl"))
    else:
        rows = rows_of_file(inputs.sources[f"suites.{name}.few_shot_rows"], suite.type, suite.kind)
    return tuple(sources.cases_of(name, rows, suite.kind))


def _schema(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"the JSON Schema cannot be read ({error})", where=path) from None
