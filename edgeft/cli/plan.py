"""`edgeft plan RECIPE [TARGET…]`: what would be built and why, and what it takes. `edgeft run -n`: the same list."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option, targets_argument

if TYPE_CHECKING:
    from edgeft.cli.project import Opened
    from edgeft.pipeline.plan import Planned
    from edgeft.pipeline.project import Options
    from edgeft.stages.estimates import Estimate

COLOURS = {"will run": "yellow", "may run": "yellow", "up to date": "green", "blocked": "red", "failed verdict": "red"}


@click.command(cls=Command)
@recipe_argument
@targets_argument
@click.option("-B", "--always-make", is_flag=True, help="As if every target were built again.")
@set_option
@json_option
def command(
    recipe: Path, targets: tuple[str, ...], always_make: bool, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Say what `edgeft run` would build and why, what it would take, and how large the files would be.

    Nothing is built or downloaded.
    """
    from edgeft.cli.project import open_project
    from edgeft.pipeline.project import Options

    show_plan(open_project(recipe, overrides), Options(targets, force=always_make), as_json=as_json, estimates=True)


def show_plan(opened: Opened, options: Options, *, as_json: bool, estimates: bool = False) -> None:
    """Print a plan; with `estimates` what it takes too."""
    from edgeft.pipeline.plan import plan

    planned = plan(opened.targets, opened.project, options)
    needs = _estimates(opened) if estimates else {}
    if as_json:
        data = [
            _data(one) | ({"takes": asdict(needs[one.target.name])} if one.target.name in needs else {})
            for one in planned
        ]
        print_json({"recipe": opened.project.recipe.path, "targets": data})
        return
    for one in planned:
        _line(one, needs.get(one.target.name) if one.will_run else None)
    running = sum(one.will_run for one in planned)
    click.echo(f"\n{running} of {len(planned)} targets would run" if running else "\neverything is up to date")


def _data(planned: Planned) -> dict[str, Any]:
    return {
        "name": planned.target.name,
        "stage": planned.target.stage,
        "status": str(planned.status),
        "reasons": [{"kind": reason.kind, "text": reason.text} for reason in planned.reasons],
        "fingerprint": planned.fingerprint,
        "resumes": planned.resumes,
    }


def _estimates(opened: Opened) -> dict[str, Estimate]:
    """What each target takes on this machine; empty when the base model's sizes are not known."""
    from edgeft.cli.machine import has_cuda, usable_cores
    from edgeft.stages.estimates import Machine, estimates_of

    return estimates_of(opened.recipe, Machine("cuda" if has_cuda() else "cpu", usable_cores()))


def _line(planned: Planned, takes: Estimate | None) -> None:
    """name, status, and in a column of their own the reasons and what it takes."""
    import textwrap

    from edgeft.cli.console import why
    from edgeft.cli.faults import printable

    status = str(planned.status)
    head = f"{planned.target.name:<20} {click.style(status, fg=COLOURS.get(status))}{'':{15 - len(status)}}"
    reasons = printable(why(planned.reasons, most=12))
    first, *rest = textwrap.wrap(reasons, width=80 - 36, break_on_hyphens=False) or [""]
    click.echo((head + first).rstrip())
    for line in rest:
        click.echo(" " * 36 + line)
    if takes is not None and (text := _takes(takes)):
        click.echo(" " * 36 + click.style(text, dim=True))


def _takes(takes: Estimate) -> str:
    """ "~4:10, 1.3 GB RAM, 8.1 MB disk": about, except for sizes that are known exactly."""
    from edgeft.cli.console import duration
    from edgeft.files import human_size

    parts = [
        f"~{duration(max(takes.seconds, 1.0))}" if takes.seconds is not None else "",
        f"{human_size(takes.vram)} VRAM" if takes.vram is not None else "",
        f"{human_size(takes.ram)} RAM" if takes.ram is not None else "",
        f"{'' if takes.exact else '~'}{human_size(takes.disk)} disk" if takes.disk is not None else "",
    ]
    return ", ".join(part for part in parts if part)
