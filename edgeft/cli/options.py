"""What several commands share on the command line: the command class, the recipe and its targets, `--set`, `--json`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command that takes `--debug` too, so that it can be added at the end of the line that failed."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, hidden=True, callback=_set_debug)
        )


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().obj.debug = True


def recipe_argument(function: F) -> F:
    """RECIPE: a YAML file (whether it is there is said by the loader, in its own words)."""
    return click.argument("recipe", type=click.Path(path_type=Path))(function)


def targets_argument(function: F) -> F:
    """TARGET…: names, the first part of names ("export"), or patterns ("export.gguf*")."""
    return click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=_complete_targets)(function)


def set_option(function: F) -> F:
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set a key of the recipe, as train.learning_rate=1e-4. May be repeated.",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def print_json(value: Any) -> None:
    """The result of a command for programs, on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _complete_targets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The targets of the recipe that stands on the line; nothing when it cannot be loaded."""
    from edgeft.cli.project import open_project

    try:
        targets = open_project(ctx.params["recipe"], tuple(ctx.params.get("overrides") or ())).targets
    except Exception:  # completion never speaks
        return []
    return [CompletionItem(target.name) for target in targets if target.name.startswith(incomplete)]


def base_option(function: F) -> F:
    return click.option(
        "--base", metavar="MODEL", required=True, help="The base model: builtin:NAME, a folder or a hub id."
    )(function)


def out_option(function: F) -> F:
    return click.option(
        "--out", type=click.Path(path_type=Path), required=True, help="The folder to write; it must not be there yet."
    )(function)


def merge_base_option(function: F) -> F:
    return click.option(
        "--merge-base",
        type=click.Choice(["dequantized", "pristine", "auto"]),
        default="dequantized",
        show_default=True,
        help="Fold into the 4-bit weights the adapter was trained on, or the checkpoint's own; auto is for recipes.",
    )(function)
