"""`edgeft check RECIPE`: every error of the recipe, its files, its base model and its data rows, in one go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option
from edgeft.errors import EdgeftError, Errors

if TYPE_CHECKING:
    from edgeft.recipe import Recipe


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


def _check(path: Path, overrides: tuple[str, ...], faults: list[EdgeftError]) -> dict[str, object]:
    """What the recipe stands for; faults of its files, its base model and its rows are added to `faults`."""
    from edgeft.cli.project import open_project
    from edgeft.models import base
    from edgeft.recipe.check import check
    from edgeft.stages.exportable import refusals

    opened = open_project(path, overrides)
    found = check(opened.recipe, base)  # type: ignore[arg-type]  # a module's functions take the narrower Base
    faults.extend(found or refusals(opened.recipe))
    rows = _rows(opened.recipe, faults)
    return {"targets": len(opened.targets), "rows": rows}


def _rows(recipe: Recipe, faults: list[EdgeftError]) -> int:
    """Sound rows in the recipe's files that are there; what is wrong with the others is added to `faults`."""
    from edgeft.data.faults import errors_of
    from edgeft.data.rows import Entry, read_rows

    count = 0
    data = recipe.data
    for entry in [*data.datasets, *data.validation, *data.test]:
        path = recipe.resolve(entry.path)
        if path.is_file():
            rows, wrong = read_rows(Entry(path, entry.type, os.path.relpath(path)))
            count += len(rows)
            faults.extend(errors_of(wrong))
    return count


def _data(fault: EdgeftError) -> dict[str, Any]:
    where = fault.where
    place = {"file": where.file, "line": where.line, "column": where.column} if where else None
    return {"what": fault.what, "where": place, "do": fault.do}
