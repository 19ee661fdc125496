"""`edgeft runs list|show|diff|gc`: what was built here, from what, what changed between two runs, and cleaning up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgeft.cli.options import Group, json_option, print_json

if TYPE_CHECKING:
    from edgeft.artifact import Artifact
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
    """Show what changed from run A to run B (default: the last one): settings, rows of the data, metrics (paired row by
    row where both runs answered the same rows), other results, environment."""
    from edgeft.pipeline import diff_runs, read_run
    from edgeft.stages.compared import data_changes, metric_changes

    first, second = read_run(Path.cwd(), a), read_run(Path.cwd(), b)
    found = diff_runs(first, second)
    before, after = _artifacts(first), _artifacts(second)
    rows, metrics = data_changes(before.get("data"), after.get("data")), metric_changes(before, after)
    if as_json:
        differences = [asdict(one) for one in found]
        print_json({"a": first.id, "b": second.id, "differences": differences, "data": rows, "metrics": metrics})
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

    _show_rows(rows)
    _show_metrics(metrics, everything)


def _artifacts(run: Run) -> dict[str, Artifact]:
    """The artifacts of a run that are still in the store, by target."""
    from edgeft import artifact

    found = {}
    for name, entry in run.targets.items():
        folder = Path.cwd() / ".edgeft" / "store" / str(entry.get("artifact") or "")
        if entry.get("artifact") and artifact.is_artifact(folder):
            found[name] = artifact.load(folder)
    return found


def _show_rows(splits: Mapping[str, Mapping[str, Any]]) -> None:
    for split, entry in splits.items():
        counts = {word: entry[word] for word in ("added", "removed", "changed") if entry[word]}
        if counts:
            before, after = entry["rows"]
            said = ", ".join(f"{count} {word}" for word, count in counts.items())
            click.echo(f"  {split} rows {before} → {after}: {said}")
            _wrapped(f"such as {', '.join(entry['examples'])}")


def _show_metrics(entries: Sequence[Mapping[str, Any]], everything: bool) -> None:
    """A table of the metrics that differ; of the whole suites unless `everything`."""
    from edgeft.cli.faults import printable
    from edgeft.report import words

    shown = [entry for entry in entries if entry["a"] != entry["b"] and (everything or "/" not in entry["suite"])]
    if not shown:
        return
    click.echo(f"\n{'METRIC':<38} {'A':>9} {'B':>9} {'CHANGE':>10} {'P':>8}")
    for entry in shown:
        metric, change = entry["metric"], entry["change"]
        values = [words.figure(metric, side and side["value"]) for side in (entry["a"], entry["b"])]
        moved = words.change(metric, change["value"]) if change else "unpaired"
        p_value = change["p_value"] if change else None
        doubt = "" if p_value is None else "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
        name = printable(f"{entry['target']} {entry['suite']}.{metric}")[:38]
        click.echo(f"{name:<38} {values[0]:>9} {values[1]:>9} {moved:>10} {doubt:>8}".rstrip())


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
