"""`edgeft eval ARTIFACT…`: ask anything that can answer a suite of questions and score it, without a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.against import compare, earlier, refuse_unfit, show
from edgeft.cli.options import Command, json_option, print_json
from edgeft.recipe.names import HARNESS_PREFIX, KIND_METRICS

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.suites import Suite
    from edgeft.runtimes.classifier import Classifier
    from edgeft.runtimes.protocol import Runtime
    from edgeft.runtimes.reward import RewardModel

Found = tuple[str, str, "Evaluation"]  # the artifact as named, its runtime's name, what it was found to do


@click.command(cls=Command)
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True)
@click.option(
    "--suite",
    "suites",
    metavar="ROWS",
    multiple=True,
    required=True,
    help="A file of rows, builtin:general, or lm-eval:TASK. NAME=ROWS names it. May be repeated.",
)
@click.option(
    "--kind",
    type=click.Choice(list(KIND_METRICS)),
    default="generation",
    show_default=True,
    help="What is asked: an answer, the likeliest of several, the better of two, how likely a text is, a head's label.",
)
@click.option("--type", "form", metavar="FORM", help="The form of a file's rows, as in a recipe's data section.")
@click.option("--metric", "metrics", metavar="METRIC", multiple=True, help="How to score. Default by the kind.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of one answer.")
@click.option("--limit", type=click.IntRange(min=1), help="Ask this many rows of each suite, spread evenly.")
@click.option("--system", metavar="TEXT", help="A system turn for rows that have none.")
@click.option("--few-shot", type=click.IntRange(min=0), default=0, help="Answered examples before each question.")
@click.option("--multiturn/--no-multiturn", default=True, help="Of lm-eval tasks: each example as turns of its own.")
@click.option("--stop", metavar="TEXT", multiple=True, help="A text that ends an answer.")
@click.option("--chat/--no-chat", default=True, help="Ask through the model's chat template, or the plain texts.")
@click.option("--include-path", type=click.Path(path_type=Path), help="A folder of lm-eval task files of your own.")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens read together at most.")
@click.option("--base", metavar="MODEL", help="The base model of an adapter, when it does not say it itself.")
@click.option("--against", metavar="EARLIER", help="Compare with an earlier evaluation: its folder, or a run's id.")
@click.option("--gate", "gates", metavar="LINE", multiple=True, help="With --against: a line that must hold.")
@click.option("--out", type=click.Path(path_type=Path), help="Write rows.parquet, summary.json into this new folder.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    artifacts: tuple[str, ...],
    suites: tuple[str, ...],
    include_path: Path | None,
    batch_tokens: int | None,
    base: str | None,
    against: str | None,
    gates: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Ask each ARTIFACT (a base model, adapter, merged model, GGUF file, ONNX folder, or a link in build/) the rows of
    one or more suites, and print the scores with their 95 % intervals: of several artifacts, one table."""
    from edgeft.cli.folders import refuse_existing
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.errors import UsageError

    if out is not None:
        refuse_existing(out)
    if len(artifacts) > 1 and (against is not None or out is not None):
        raise UsageError("--against and --out take one artifact", do="ask one artifact at a time")
    quiet_libraries(debug=ctx.find_root().obj.debug)
    questions = [_suite(text, include_path, asked) for text in suites]
    before = earlier(against) if against is not None else None
    parsed = refuse_unfit(gates, questions, before)
    found = [_asked(artifact, questions, base, batch_tokens) for artifact in artifacts]
    _, runtime, first = found[0]
    if out is not None:
        _write(out, first)
    compared = compare(before, first.rows, parsed) if before is not None else None
    if as_json:
        told = [_told(*one) for one in found]
        shown = told[0] if len(told) == 1 else {"artifacts": told}
        print_json(shown if compared is None else {**shown, "against": compared.as_json()})
    elif len(found) == 1:
        _show(first.summary, runtime)
    else:
        _show_table(found)
    if compared is not None:
        show(compared, quiet=as_json)


def _asked(artifact: str, questions: Sequence[Suite], base: str | None, batch_tokens: int | None) -> Found:
    """One artifact, opened in its own runtime, asked, closed again: only one is in memory at a time."""
    from edgeft.cli.console import reporter
    from edgeft.evals.evaluate import evaluate
    from edgeft.pipeline import Event, EventKind
    from edgeft.progress import Progress

    with _opened(artifact, base) as runtime, reporter(to_stderr=True) as events:

        def listen(progress: Progress) -> None:
            events(Event(EventKind.PROGRESS, "eval", "eval", progress=progress))

        return artifact, runtime.name, evaluate(runtime, questions, listen, batch_tokens=batch_tokens)


def _opened(artifact: str, base: str | None) -> Runtime | Classifier | RewardModel:
    from edgeft.runtimes import open_any

    return open_any(artifact, base=base)


def _told(artifact: str, runtime: str, found: Evaluation) -> dict[str, Any]:
    return {"artifact": artifact, "runtime": runtime, "summary": found.summary, "timing": found.timing}


def _suite(text: str, include_path: Path | None, asked: Mapping[str, Any]) -> Suite:
    """A suite as named on the command line."""
    from edgeft.evals import suites
    from edgeft.stages.questions import rows_of_file

    name, equals, rows = text.partition("=")
    rows = rows if equals else text
    asking = suites.Asking(
        asked["system"],
        asked["few_shot"],
        stop=tuple(asked["stop"]),
        chat=asked["chat"],
        multiturn=asked["multiturn"],
    )
    settings = {"include_path": str(include_path) if include_path else None}
    wanted: dict[str, Any] = {"max_tokens": asked["max_tokens"], "asking": asking, "settings": settings}
    if rows.startswith(HARNESS_PREFIX):
        task = rows.removeprefix(HARNESS_PREFIX)
        return suites.Suite(name if equals else task, (), (), task=task, limit=asked["limit"], **wanted)
    kind = asked["kind"]
    wanted |= {"metrics": asked["metrics"] or KIND_METRICS[kind], "limit": asked["limit"], "kind": kind}
    if rows.startswith(suites.BUILTIN_PREFIX):
        return suites.builtin(name if equals else rows.removeprefix(suites.BUILTIN_PREFIX), rows, **wanted)
    return suites.from_rows(
        name if equals else Path(rows).stem, rows_of_file(Path(rows), asked["form"], kind), **wanted
    )


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


def _show_table(found: Sequence[Found]) -> None:
    """A line per artifact, a column per figure of the whole suites; half of its 95 % interval behind each."""
    names = [(suite, metric) for suite, scores in found[0][2].summary.items() if "/" not in suite for metric in scores]
    width = max(len(runtime) for _, runtime, _ in found)
    titles = [f"{suite}.{metric}" for suite, metric in names]
    click.echo(
        "  ".join([f"{'runtime':<{width}}", *(f"{title:>{max(17, len(title))}}" for title in titles), "artifact"])
    )
    for artifact, runtime, evaluation in found:
        cells = []
        for (suite, metric), title in zip(names, titles, strict=True):
            score = evaluation.summary[suite][metric]
            reach = f" ±{(score['high'] - score['low']) / 2:.4f}" if score.get("low") is not None else ""
            cells.append(f"{score['value']:.4f}{reach}".rjust(max(17, len(title))))
        click.echo("  ".join([f"{runtime:<{width}}", *cells, artifact]))
