"""`edgeft init [TEMPLATE]`: a starter recipe with sample data, ready to run."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgeft.cli.options import Command, json_option, print_json


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from edgeft.recipe.templates import TEMPLATES

    return [CompletionItem(name, help=row.help) for name, row in TEMPLATES.items() if name.startswith(incomplete)]


@click.command(cls=Command)
@click.argument("template", default="starter", shell_complete=_complete)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Write there, not here."
)
@click.option("--list", "listing", is_flag=True, help="List the templates.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@json_option
def command(template: str, folder: Path, listing: bool, force: bool, as_json: bool) -> None:
    """Write a starter recipe and its sample data here. TEMPLATE is one of those that --list shows."""
    from edgeft.recipe.templates import TEMPLATES, write_template

    if listing:
        if as_json:
            print_json({name: row.help for name, row in TEMPLATES.items()})
            return
        for name, row in TEMPLATES.items():
            click.echo(f"{name:<12} {row.help}")
        return
    written = write_template(template, folder, overwrite=force)
    if as_json:
        print_json({"template": template, "files": written})
        return
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"\nnow: edgeft run {written[0]}")
