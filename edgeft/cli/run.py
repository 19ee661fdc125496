"""`edgeft run RECIPE [TARGET…]`: build what is asked for and not up to date, show it, and say how to use what ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option, targets_argument

if TYPE_CHECKING:
    from edgeft.cli.project import Opened
    from edgeft.errors import EdgeftError
    from edgeft.pipeline.runner import RunResult, TargetResult


@click.command(cls=Command)
@recipe_argument
@targets_argument
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be built, and why.")
@click.option("-B", "--always-make", is_flag=True, help="Build every target again.")
@click.option("-k", "--keep-going", is_flag=True, help="Go on with what does not depend on a failure.")
@click.option("--from-scratch", is_flag=True, help="Drop the checkpoints that an interrupted run left.")
@set_option
@json_option
def command(
    recipe: Path,
    targets: tuple[str, ...],
    dry_run: bool,
    always_make: bool,
    keep_going: bool,
    from_scratch: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build the targets of RECIPE that are not up to date, like make.

    No TARGET means all of them; "export" means every export, "export.gguf*" those that match. What was interrupted
    goes on where it stopped.

    \b
    Exit codes: 0 built or up to date, 1 a stage failed, 2 usage or recipe
    error, 3 missing extra or hardware, 4 a gate or a verification failed,
    130 interrupted.
    """
    from edgeft.cli.console import reporter
    from edgeft.cli.plan import show_plan
    from edgeft.cli.project import open_project
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.pipeline.project import Options
    from edgeft.pipeline.runner import run

    opened = open_project(recipe, overrides)
    options = Options(targets, force=always_make, keep_going=keep_going, from_scratch=from_scratch)
    if dry_run:
        show_plan(opened, options, as_json=as_json)
        return
    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    with reporter(to_stderr=as_json) as events:
        result = run(opened.targets, opened.project, options, events)
    if as_json:
        print_json(as_data(result, opened))
    else:
        _tell(result, opened)
    faults = list(_faults(result, opened))
    if faults:
        from edgeft.errors import Errors

        raise Errors(faults)
    click.get_current_context().exit(result.exit_code)


def link_of(result: TargetResult, opened: Opened) -> Path | None:
    """`build/<recipe>/<target>`, relative to the current folder, when it points at this result's artifact."""
    link = Path("build") / opened.project.recipe.name / result.target.name
    place = opened.project.root / link
    if result.artifact is None or not place.is_symlink() or place.resolve() != result.artifact.path.resolve():
        return None
    return link


def as_data(result: RunResult, opened: Opened) -> dict[str, Any]:
    """The result of a run for programs."""
    return {
        "recipe": opened.project.recipe.path,
        "run": result.id,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 3),
        "targets": [_target_data(one, opened) for one in result.results],
    }


def _target_data(one: TargetResult, opened: Opened) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": one.target.name,
        "stage": one.target.stage,
        "status": str(one.status),
        "reasons": [{"kind": reason.kind, "text": reason.text} for reason in one.reasons],
    }
    if one.seconds is not None:
        data["seconds"] = round(one.seconds, 3)
    if one.artifact is not None:
        data |= {
            "artifact": one.artifact.path,
            "link": link_of(one, opened),
            "kind": one.artifact.kind,
            "digest": one.artifact.digest,
            "passed": one.artifact.passed,
            "bytes": one.artifact.size(),
            "facts": dict(one.artifact.facts),
        }
    if one.error is not None:
        data["error"] = {"exit_code": one.error.exit_code, "text": str(one.error)}
    return data


def _tell(result: RunResult, opened: Opened) -> None:
    """The summary in the terminal: figures, files, how to use them."""
    from edgeft.cli.faults import printable
    from edgeft.cli.shipped import files_and_commands
    from edgeft.pipeline.events import Status
    from edgeft.report.terminal import summary

    artifacts = {one.target.name: one.artifact for one in result.results if one.artifact is not None}
    text = summary(artifacts)
    if text:
        click.echo(f"\n{printable(text)}")
    links = {one.target.name: link for one in result.results if (link := link_of(one, opened)) is not None}
    for line in files_and_commands(artifacts, links, opened.project.recipe.name):
        click.echo(printable(line))
    if all(one.status is Status.UP_TO_DATE for one in result.results):
        click.echo(f"everything is up to date ({len(result.results)} targets)")


def _faults(result: RunResult, opened: Opened) -> Iterator[EdgeftError]:
    """What the run failed by: the interruption, else each failed target and each verdict that did not pass."""
    from edgeft.errors import Interrupted, JudgementError
    from edgeft.pipeline.events import Status

    if isinstance(result.error, Interrupted):
        yield result.error
        return
    seen: set[str] = set()
    for one in sorted(result.results, key=lambda each: each.status is not Status.FAILED):
        if one.status is Status.FAILED and one.error is not None and str(one.error) not in seen:
            seen.add(str(one.error))
            yield one.error
        elif one.status is Status.FAILED_VERDICT and one.artifact is not None:
            facts = one.artifact.facts
            sentence = facts.get("sentence", "it did not pass")
            yield JudgementError(f"{one.target.name}: {sentence}", do="\n".join(map(str, facts.get("why", ()))) or None)
