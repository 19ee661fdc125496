"""`edgeft check RECIPE`: every error of the recipe, its files, its base model and its data rows, in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option
from edgeft.errors import EdgeftError, Errors, RecipeError

if TYPE_CHECKING:
    from edgeft.data.rows import Entry
    from edgeft.recipe import Recipe
    from edgeft.recipe.dataset import DataSection


@click.command(cls=Command)
@recipe_argument
@set_option
@json_option
def command(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Find every error of RECIPE and its data at once, with file, line and column.

    Nothing is built and nothing heavy is loaded. Exit code 2 when there are errors.
    """
    faults: list[EdgeftError] = []
    summary: dict[str, object] = {}
    try:
        summary = _check(recipe, overrides, faults)
    except Errors as error:
        faults.extend(error.errors)
    except EdgeftError as error:
        faults.append(error)
    if as_json:
        print_json({"recipe": str(recipe), "ok": not faults, **summary, "errors": [_data(fault) for fault in faults]})
        click.get_current_context().exit(2 if faults else 0)
    if faults:
        raise Errors(faults)
    click.echo(f"{recipe}: ok ({summary['targets']} targets, {summary['rows']} rows)")
    for name, form in dict(summary["forms"]).items():  # type: ignore[call-overload]
        click.echo(f"  {name}: {form} rows")


def _check(path: Path, overrides: tuple[str, ...], faults: list[EdgeftError]) -> dict[str, object]:
    """What the recipe stands for; faults of its files, its base model and its rows are added to `faults`."""
    from edgeft.cli.project import open_project
    from edgeft.models import base
    from edgeft.recipe.check import check
    from edgeft.stages.exportable import refusals

    opened = open_project(path, overrides)
    found = check(opened.recipe, base)  # type: ignore[arg-type]  # a module's functions take the narrower Base
    faults.extend(found or refusals(opened.recipe))
    rows, forms = _rows(opened.recipe, faults)
    return {"targets": len(opened.targets), "rows": rows, "forms": forms}


def _rows(recipe: Recipe, faults: list[EdgeftError]) -> tuple[int, dict[str, str]]:
    """Sound rows in the recipe's files that are there, and the form of each dataset; what is wrong with the others is
    added to `faults`. Tables in Parquet and Arrow need pyarrow, which is not light: they are read when the data target
    is built."""
    from edgeft.data.faults import Tally
    from edgeft.data.rows import Reading, read

    count, found = 0, {}
    for _, section, data, objective in recipe.data_sections:
        tally = Tally(data.checks.model_dump())
        for key, written, entry in _entries(recipe, section, data):
            reading = Reading(objective)
            try:
                count += sum(1 for _ in read(entry, tally, reading))
            except EdgeftError as error:
                where = recipe.location_of(f"{key}.type")
                faults.append(RecipeError(f"{written}: {error.what}", where=where, do=error.do))
            if reading.form:
                found[written] = reading.form
        faults.extend(tally.errors())
    return count, found


def _entries(recipe: Recipe, section: str, data: DataSection) -> Iterator[tuple[str, str, Entry]]:
    """(key in the recipe, path as written, entry) of each dataset whose files are there and light to read."""
    from edgeft.data.reading import TABLES
    from edgeft.data.rows import Entry
    from edgeft.datafiles import files_of, find, format_of, without_sample

    for split, listed in (("datasets", data.datasets), ("validation", data.validation), ("test", data.test)):
        for number, entry in enumerate(listed):
            path = find(without_sample(entry.path)[0], relative_to=recipe.folder).path
            wanted = entry.split or {"datasets": "train"}.get(split, split)
            try:
                paths = files_of(path, split=wanted, subset=entry.subset) if path is not None else []
            except EdgeftError:  # told by the check of the recipe's files
                continue
            light = [one for one in paths if one.is_file() and format_of(one.name) not in TABLES]
            if light and len(light) == len(paths):
                found = Entry(path or Path(), entry.type, os.path.relpath(path or ""), entry.fields or {})
                found = replace(found, split=wanted, subset=entry.subset, system=entry.system)
                yield f"{section}.{split}.{number}", entry.path, found


def _data(fault: EdgeftError) -> dict[str, Any]:
    where = fault.where
    place = {"file": where.file, "line": where.line, "column": where.column} if where else None
    return {"what": fault.what, "where": place, "do": fault.do}
