"""`edgeft runs list|show|diff|gc`: what was built here, from what, what changed between two runs, and cleaning up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgeft.cli.options import Group, json_option, print_json

if TYPE_CHECKING:
    from edgeft.pipeline import Run

COLOURS = {"ok": "green", "running": "cyan", "verdict failed": "red", "failed": "red"}


@click.group(cls=Group)
def command() -> None:
    """List, show, compare and clean up what was built in this folder."""


def _complete_runs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from edgeft.pipeline import list_runs

    return [
        CompletionItem(run.id, help=f"{run.recipe}, {run.state}")
        for run in list_runs(Path.cwd())
        if run.id.startswith(incomplete)
    ]


@command.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show the newest, this many.")
@json_option
def list_command(limit: int, as_json: bool) -> None:
    """List the runs of this folder, the newest first."""
    from edgeft.cli.console import duration
    from edgeft.cli.faults import printable
    from edgeft.pipeline import Status, list_runs

    runs = list_runs(Path.cwd())
    if as_json:
        print_json([_summary(run) for run in runs[:limit]])
        return
    if not runs:
        click.echo("no runs here yet; start one with: edgeft run RECIPE")
        return
    click.echo(f"{'RUN':<21} {'RECIPE':<20} {'STATE':<15} {'BUILT':>6} {'TIME':>9}")
    for run in runs[:limit]:
        state = click.style(f"{run.state:<15}", fg=COLOURS.get(run.state, "yellow"))
        took = duration(run.seconds) if run.seconds is not None else ""
        built = f"{run.count(Status.BUILT)}/{len(run.targets)}"
        click.echo(f"{run.id:<21} {printable(run.recipe)[:20]:<20} {state} {built:>6} {took:>9}")
    if len(runs) > limit:
        click.echo(f"and {len(runs) - limit} older: --limit {len(runs)}")


@command.command("show")
@click.argument("run", default="last", shell_complete=_complete_runs)
@json_option
def show_command(run: str, as_json: bool) -> None:
    """Show one RUN (an id, the beginning of one, or "last"): each target, why it ran, and what came out."""
    from edgeft.pipeline import read_run

    found = read_run(Path.cwd(), run)
    if as_json:
        print_json(dict(found.data))
        return
    _show(found)


def _summary(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "recipe": run.recipe,
        "started": run.started,
        "seconds": run.seconds,
        "exit_code": run.exit_code,
        "state": run.state,
        "targets": {name: entry.get("status") for name, entry in run.targets.items()},
    }


def _show(run: Run) -> None:
    from edgeft.cli.console import duration
    from edgeft.cli.faults import printable
    from edgeft.files import human_size

    took = f", {duration(run.seconds)}" if run.seconds is not None else ""
    click.echo(printable(f"{run.id}  {run.data['recipe_path'] or run.recipe}  {run.started}  {run.state}{took}"))
    for text in run.data["overrides"]:
        click.echo(printable(f"  --set {text}"))
    for name, entry in run.targets.items():
        status = entry.get("status") or "not reached"
        details = [
            duration(entry["seconds"]) if "seconds" in entry else "",
            human_size(entry["bytes"]) if "bytes" in entry else "",
            entry.get("artifact", ""),
        ]
        click.echo(printable(f"  {name:<20} {status:<14} {'  '.join(text for text in details if text)}".rstrip()))
        for reason in entry.get("reasons", ()):
            _wrapped(reason["text"])
        if "error" in entry:
            _wrapped(entry["error"]["text"])
        for name_, value in _figures(entry.get("facts", {})).items():
            _wrapped(f"{name_} {value}")


def _figures(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and words among facts."""
    return {name: value for name, value in facts.items() if isinstance(value, int | float | str) and value != ""}


def _wrapped(text: str) -> None:
    import textwrap

    from edgeft.cli.faults import printable

    for line in textwrap.wrap(printable(text), width=80 - 6, break_on_hyphens=False) or [""]:
        click.echo(f"      {line}")


@command.command("diff")
@click.argument("a", shell_complete=_complete_runs)
@click.argument("b", default="last", shell_complete=_complete_runs)
@click.option("--all", "everything", is_flag=True, help="Measurements (times, memory) and digests too.")
@json_option
def diff_command(a: str, b: str, everything: bool, as_json: bool) -> None:
    """Show what changed from run A to run B (default: the last one): settings, data, results, environment."""
    from edgeft.pipeline import diff_runs, read_run

    first, second = read_run(Path.cwd(), a), read_run(Path.cwd(), b)
    found = diff_runs(first, second)
    if as_json:
        print_json({"a": first.id, "b": second.id, "differences": [asdict(one) for one in found]})
        return
    shown = [one for one in found if everything or (one.kind != "measurement" and one.name != "digest")]
    click.echo(f"{first.id} → {second.id}")
    for target in dict.fromkeys(one.target for one in shown):
        click.echo(f"  {target or 'run'}")
        for one in shown:
            if one.target == target:
                _wrapped(str(one).removeprefix(f"{target}: ") if target else str(one))
    if not shown:
        click.echo("  no difference" if not found else "  no difference but times (--all shows them)")


@command.command("gc")
@click.option("--keep-days", type=click.FloatRange(min=0), default=14, show_default=True, help="Keep what is younger.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def gc_command(keep_days: float, dry_run: bool, as_json: bool) -> None:
    """Remove artifacts and checkpoints that no link in build/ and no recent run refers to."""
    from edgeft.files import human_size
    from edgeft.pipeline import collect

    garbage = collect(Path.cwd(), keep_days=keep_days, dry_run=dry_run)
    if as_json:
        print_json({**asdict(garbage), "bytes": garbage.bytes, "dry_run": dry_run})
        return
    for item in garbage.items:
        click.echo(f"  {item.kind:<9} {human_size(item.bytes):>10}  {item.path.name}")
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {human_size(garbage.bytes)}; {garbage.kept} entries ({human_size(garbage.kept_bytes)}) stay")
