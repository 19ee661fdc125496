"""`edgeft data show|stats RECIPE`: the rows as the model will see them. Builds the data target when it is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Group, json_option, print_json, recipe_argument, set_option

if TYPE_CHECKING:
    from edgeft.artifact import Artifact
    from edgeft.recipe import Recipe

BARS = 30  # columns of the longest bar of the histogram


@click.group(cls=Group)
def command() -> None:
    """See the data as the model will see it."""


@command.command("show")
@recipe_argument
@click.option("--split", type=click.Choice(["train", "validation"]), default="train", show_default=True)
@click.option("--start", type=click.IntRange(min=0), default=0, help="Begin with this row, counted from 0.")
@click.option("-n", "--rows", type=click.IntRange(min=1), default=3, show_default=True, help="Show this many rows.")
@set_option
@json_option
def show_command(recipe: Path, split: str, start: int, rows: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show rows of RECIPE rendered and tokenized; what is trained on is marked (in colour in a terminal)."""
    from edgeft.cli.project import built, open_project
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.data.show import shown
    from edgeft.data.store import LABELS
    from edgeft.errors import DataError
    from edgeft.files import read_json

    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    opened = open_project(recipe, overrides)
    dataset = built(opened, ["data"])["data"]
    if f"{split}.parquet" not in dataset.files:
        raise DataError(f"the recipe has no {split} rows", where=recipe)
    labels = read_json(dataset.file(LABELS)) if LABELS in dataset.files else []
    path = dataset.file(f"{split}.parquet")
    found = shown(path, _tokenizer(opened.recipe, dataset), start=start, count=rows, labels=labels)
    if as_json:
        print_json(found)
        return
    for row in found:
        _row(row)
    click.echo("trained on: " + (click.style("this", fg="green") if _colours() else "⟦this⟧"))


def _tokenizer(recipe: Recipe, dataset: Artifact) -> Any:
    """The tokenizer with the template that the data target used."""
    from edgeft.files import read_json
    from edgeft.models.base import resolve
    from edgeft.models.tokenizer import load_tokenizer
    from edgeft.stages.targets import base_ref

    template = read_json(dataset.file("stats.json"))["chat_template"]
    return load_tokenizer(resolve(base_ref(recipe), relative_to=recipe.folder), chat_template=template)


def _colours() -> bool:
    import sys

    return sys.stdout.isatty()


def _row(row: Mapping[str, Any]) -> None:
    """One row: its id, the text with the trained parts marked, and how many tokens that is."""
    from edgeft.cli.faults import printable

    tokens = row["tokens"]
    trained = sum(token["trained"] for token in tokens)
    note = f" ({printable(row['note'])})" if row["note"] else ""
    click.echo(click.style(f"{row['id']}{note}: {len(tokens)} tokens, {trained} trained on", bold=True))
    text = ""
    for is_trained, piece in _runs(tokens):
        piece = printable(piece)
        if not is_trained:
            text += click.style(piece, dim=True) if _colours() else piece
        else:
            text += click.style(piece, fg="green") if _colours() else f"⟦{piece}⟧"
    click.echo(text if text.endswith("\n") else f"{text}\n", nl=False)
    click.echo()


def _runs(tokens: Iterable[Mapping[str, Any]]) -> Iterable[tuple[bool, str]]:
    """Neighbouring tokens that are alike in being trained on, joined."""
    from itertools import groupby

    for is_trained, group in groupby(tokens, key=lambda token: bool(token["trained"])):
        yield is_trained, "".join(token["text"] for token in group)


@command.command("stats")
@recipe_argument
@set_option
@json_option
def stats_command(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Rows, tokens, lengths, duplicates and leakage of RECIPE's data, and what its sequence_len does to it."""
    from edgeft.cli.project import built, open_project
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.files import read_json

    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    stats = read_json(built(open_project(recipe, overrides), ["data"])["data"].file("stats.json"))
    if as_json:
        print_json(stats)
        return
    _splits(stats)
    lengths = stats["splits"]["train"]["length"]
    if lengths:
        _histogram(lengths, stats["sequence_len"])
    _roles(stats)
    packing = stats["packing"]
    click.echo(
        f"\npacked: {packing['sequences']} sequences of {stats['sequence_len']} tokens, "
        f"{100 * packing['filled']:.0f} % full{'' if stats['sample_packing'] else ' (sample_packing is off)'}\n"
        f"not packed: {100 * packing['padded']:.0f} % padding in batches of eight rows"
    )
    _checks(stats)


def _roles(stats: Mapping[str, Any]) -> None:
    """Tokens by role and rows by label, of the training rows."""
    train = stats["splits"]["train"]
    click.echo("\ntokens by role: " + ", ".join(f"{role} {count:,}" for role, count in train["tokens_by_role"].items()))
    if "labels" in train:
        click.echo("rows by label: " + ", ".join(f"{name} {count:,}" for name, count in train["labels"].items()))
    cut = train["truncated"]
    if cut["rows"]:
        click.echo(f"cut to sequence_len: {cut['rows']:,} rows, {cut['tokens']:,} tokens lost")


def _checks(stats: Mapping[str, Any]) -> None:
    """Duplicates, leakage, and what else the checks found, with what became of it."""
    for split, count in stats["duplicates"].items():
        if count:
            click.echo(f"{count} {split} rows are exact duplicates of others")
    for split, leak in stats["leakage"].items():
        if leak["rows"]:
            click.echo(f"{leak['rows']} {split} rows are training rows too, such as {', '.join(leak['examples'][:3])}")
    found = {check: table for check, table in stats["checks"].items() if table["rows"]}
    if not found:
        return
    click.echo(f"\n{'check':<16} {'rows':>7} {'left out':>9}  {'policy':<9} such as")
    for check, table in found.items():
        place = table["examples"][0]["where"][0]
        click.echo(f"{check:<16} {table['rows']:>7,} {table['dropped']:>9,}  {table['policy']:<9} {place}")


def _splits(stats: Mapping[str, Any]) -> None:
    click.echo(
        f"{'split':<12} {'rows':>8} {'tokens':>10} {'trained on':>11} {'too long':>9} {'mean':>7} {'longest':>8}"
    )
    for split, figures in stats["splits"].items():
        lengths = figures["length"] or {"mean": 0, "max": 0}
        click.echo(
            f"{split:<12} {figures['rows']:>8,} {figures['tokens']:>10,} {figures['trained_tokens']:>11,} "
            f"{figures['too_long']['rows']:>9,} {lengths['mean']:>7.0f} {lengths['max']:>8,}"
        )


def _histogram(lengths: Mapping[str, Any], sequence_len: int) -> None:
    click.echo("\ntokens per training row")
    most = max(bin_["rows"] for bin_ in lengths["histogram"])
    for bin_ in lengths["histogram"]:
        bar = "█" * round(BARS * bin_["rows"] / most) if bin_["rows"] else ""
        over = "  longer than sequence_len" if bin_["from"] > sequence_len else ""
        click.echo(f"{bin_['from']:>7} to {bin_['below'] - 1:<7} {bar:<{BARS}} {bin_['rows']:>7}{over}".rstrip())
