"""`edgeft eval ARTIFACT`: ask anything that can answer a suite of questions and score it, without a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.suites import Suite


@click.command(cls=Command)
@click.argument("artifact")
@click.option(
    "--suite",
    "suites",
    metavar="ROWS",
    multiple=True,
    required=True,
    help="A JSONL file of conversations, or builtin:general. NAME=ROWS names it. May be repeated.",
)
@click.option("--metric", "metrics", multiple=True, default=["exact_match"], show_default=True, help="How to score.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of one answer.")
@click.option("--limit", type=click.IntRange(min=1), help="Ask this many rows of each suite, spread evenly.")
@click.option("--base", metavar="MODEL", help="The base model of an adapter, when it does not say it itself.")
@click.option("--against", metavar="EARLIER", help="Compare with an earlier evaluation: its folder, or a run's id.")
@click.option("--gate", "gates", metavar="LINE", multiple=True, help="With --against: a line that must hold.")
@click.option("--out", type=click.Path(path_type=Path), help="Write rows.parquet, summary.json into this new folder.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    artifact: str,
    suites: tuple[str, ...],
    metrics: tuple[str, ...],
    max_tokens: int,
    limit: int | None,
    base: str | None,
    against: str | None,
    gates: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Ask ARTIFACT (a base model, adapter, merged model, GGUF file, ONNX folder, or a link in build/) the rows of one
    or more suites, and print the scores with their 95 % intervals. With --against the same rows are compared in pairs
    with an earlier evaluation, and exit code 4 says that a gate failed."""
    from edgeft.cli.against import compare, earlier, refuse_unfit, show
    from edgeft.cli.console import reporter
    from edgeft.cli.folders import refuse_existing
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.pipeline import Event, EventKind
    from edgeft.progress import Progress

    if out is not None:
        refuse_existing(out)
    quiet_libraries(debug=ctx.find_root().obj.debug)
    from edgeft.evals.evaluate import evaluate
    from edgeft.runtimes import open_runtime

    questions = [_suite(text, metrics, max_tokens, limit) for text in suites]
    before = earlier(against) if against is not None else None
    parsed = refuse_unfit(gates, questions, before)
    with open_runtime(artifact, base=base) as runtime, reporter(to_stderr=True) as events:

        def listen(progress: Progress) -> None:
            events(Event(EventKind.PROGRESS, "eval", "eval", progress=progress))

        name = runtime.name
        found = evaluate(runtime, questions, listen)
    if out is not None:
        _write(out, found)
    compared = compare(before, found.rows, parsed) if before is not None else None
    if as_json:
        shown = {"artifact": artifact, "runtime": name, "summary": found.summary, "timing": found.timing}
        print_json(shown if compared is None else {**shown, "against": compared.as_json()})
    else:
        _show(found.summary, name)
    if compared is not None:
        show(compared, quiet=as_json)


def _suite(text: str, metrics: tuple[str, ...], max_tokens: int, limit: int | None) -> Suite:
    """A suite as named on the command line."""
    from edgeft.evals import suites

    name, equals, rows = text.partition("=")
    rows = rows if equals else text
    wanted: dict[str, Any] = {"metrics": metrics, "max_tokens": max_tokens, "limit": limit}
    if rows.startswith(suites.BUILTIN_PREFIX):
        return suites.builtin(name if equals else rows.removeprefix(suites.BUILTIN_PREFIX), rows, **wanted)
    return suites.from_jsonl(name if equals else Path(rows).stem, Path(rows), **wanted)


def _write(out: Path, found: Evaluation) -> None:
    """The files of an evaluation artifact, in a folder that appears whole."""
    from edgeft import files
    from edgeft.errors import storage_errors
    from edgeft.stages.eval import write

    partial = out.with_name(f".{out.name}.partial")
    with storage_errors(out.parent):
        files.remove_tree(partial)
        partial.mkdir(parents=True)
        write(partial, found, {})
        files.sync_tree(partial)
        partial.rename(out)


def _show(summary: Mapping[str, Mapping[str, Any]], runtime: str) -> None:
    click.echo(f"{runtime:<20} {'metric':<18} {'value':>8}  {'95 % interval':<17} {'rows':>6}")
    for suite, scores in summary.items():
        for metric, score in scores.items():
            interval = f"{score['low']:.4f} to {score['high']:.4f}" if score.get("low") is not None else ""
            click.echo(f"{suite:<20.20} {metric:<18} {score['value']:>8.4f}  {interval:<17} {score['n']:>6}")
