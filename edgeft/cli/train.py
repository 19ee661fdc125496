"""`edgeft train`: tune a base model on a dataset artifact, without a recipe. Its options are the keys of `train:`."""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from edgeft.cli.options import Command, base_option, json_option, out_option
from edgeft.recipe.training import TrainSection


def _options() -> Iterator[click.Option]:
    """One option per key of the recipe's `train:` section, with its type, default and help."""
    for name, field in TrainSection.model_fields.items():
        flag = "--" + name.replace("_", "-")
        kind = _type(field.annotation)
        shown = field.default not in (None, [])
        if kind is bool:
            names = [f"{flag}/--no-{name.replace('_', '-')}"]
            yield click.Option([name, *names], default=field.default, help=field.description, show_default=shown)
        else:
            yield click.Option(
                [name, flag],
                type=kind,
                default="" if field.default == [] else field.default,
                help=_help(field.description or "", kind),
                show_default=shown,
                metavar="NAME" if isinstance(kind, click.Choice) else None,
            )


def _help(text: str, kind: Any) -> str:
    """Choices stand in the help: as a placeholder they would be wider than the screen."""
    return f"{text} ({', '.join(kind.choices)})" if isinstance(kind, click.Choice) else text


def _type(annotation: Any) -> Any:
    """The click type of a field: of a union the part that is not None; lists come as texts with commas."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _type(parts[0]) if len(parts) == 1 else str
    if get_origin(annotation) is Literal:
        return click.Choice(list(get_args(annotation)))
    return annotation if annotation in (int, float, bool) else str


@click.command(cls=Command)
@base_option
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A dataset artifact (edgeft run X data).")
@out_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights and row order.")
@json_option
def command(base: str, data: Path, out: Path, seed: int, as_json: bool, **keys: Any) -> None:
    """Tune a base model on a dataset and write the adapter to --out."""
    from edgeft import artifact
    from edgeft.cli.folders import base_folder, build, tell

    section = _section(keys)
    params = {name: getattr(section, name) for name in TrainSection.model_fields}
    inputs = {"data": artifact.load(data)}
    sources = {"base": base_folder(base)}
    if section.teacher is not None:
        sources["teacher"] = base_folder(section.teacher)
    sources |= {f"rewards.{i}": Path(one.path) for i, one in enumerate(section.rewards) if one.path is not None}
    made = build("train", {**params, "seed": seed}, out, inputs=inputs, sources=sources)
    tell(made, out, as_json=as_json)


command.params.extend(_options())


_WORDS = ("all-linear", "attention", "mlp", "balanced")


def _value(name: str, value: Any) -> Any:
    """Lists come as texts with commas, tables and lists of tables as JSON."""
    listed = name in ("lora_target_modules", "lora_layers", "trainable_tokens", "report_to", "rewards", "class_weights")
    if not listed or not isinstance(value, str) or value in _WORDS:
        return value
    if value[:1] in "[{":
        with contextlib.suppress(ValueError):
            return json.loads(value)
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return [int(part) for part in parts] if name == "lora_layers" and _are_numbers(parts) else parts


def _are_numbers(parts: list[str]) -> bool:
    return all(part.lstrip("-").isdigit() for part in parts)


def _section(keys: dict[str, Any]) -> TrainSection:
    """The options as the recipe's section, checked by the same rules."""
    from pydantic import ValidationError

    from edgeft.errors import Errors, UsageError

    keys = {name: _value(name, value) for name, value in keys.items()}
    try:
        return TrainSection(**keys)
    except ValidationError as error:
        faults = [
            UsageError(f"--{str(one['loc'][0]).replace('_', '-')}: {one['msg'][:1].lower()}{one['msg'][1:]}")
            for one in error.errors(include_url=False)
        ]
        raise Errors(faults) from None
