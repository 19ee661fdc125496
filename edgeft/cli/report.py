"""`edgeft report RECIPE`: write the HTML report from whatever artifacts there are now, and open it."""

from __future__ import annotations

from pathlib import Path

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option


@click.command(cls=Command)
@recipe_argument
@click.option("--open/--no-open", "show", default=None, help="Open it in the browser (default: in a terminal).")
@set_option
@json_option
@click.pass_context
def command(ctx: click.Context, recipe: Path, show: bool | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Write the report of RECIPE from the artifacts that are there now, and open it. Nothing else is built."""
    import sys

    from edgeft.cli.console import reporter
    from edgeft.cli.project import open_project
    from edgeft.cli.run import link_of
    from edgeft.errors import StorageError
    from edgeft.pipeline import Options, run

    opened = open_project(recipe, overrides)
    with reporter(to_stderr=True) as events:
        result = run(
            opened.targets,
            opened.project,
            Options(["report"], lenient_only=True),
            lambda event: events(event) if event.target == "report" else None,
        )
    written = result["report"]
    if written.error is not None:
        raise written.error
    link = link_of(written, opened)
    if written.artifact is None or link is None:
        raise StorageError("the report was not written", where=result.manifest)
    page = link / "report.html"
    if as_json:
        print_json({"report": page, "artifact": written.artifact.path})
    else:
        click.echo(page)
    if show if show is not None else sys.stdout.isatty() and not as_json:
        click.launch(str(page))
    ctx.exit(0)
