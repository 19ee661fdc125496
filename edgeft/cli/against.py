"""`edgeft eval --against EARLIER`: the same rows, asked now and in any earlier run, compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.errors import InputError, JudgementError, UsageError

if TYPE_CHECKING:
    from edgeft.evals.gates import Check
    from edgeft.evals.suites import Suite
    from edgeft.recipe.gates import Gate

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Compared:
    """Every difference of a suite's metric, and the checks that were asked for."""

    differences: list[dict[str, Any]]
    checks: list[Check]

    def as_json(self) -> dict[str, Any]:
        return {"differences": self.differences, "checks": [check.as_json() for check in self.checks]}


def earlier(name: str) -> Rows:
    """The rows of an earlier evaluation: its folder (or a link in build/), or the tuned model's of a run, by its id."""
    from edgeft.pipeline import read_run
    from edgeft.stages.gate import rows_in

    if Path(name).exists():
        return rows_in(Path(name))
    run = read_run(Path.cwd(), name)
    made = run.targets.get("eval.tuned", {}).get("artifact")
    if made is None:
        raise InputError(f"the run {run.id} has no evaluation (eval.tuned)", do="give the folder of one")
    return rows_in(Path.cwd() / ".edgeft" / "store" / made)


def refuse_unfit(lines: Sequence[str], suites: Sequence[Suite], before: Rows | None) -> list[Gate]:
    """The parsed gate lines; a `UsageError` before anything is asked when one cannot be judged."""
    from edgeft.evals.metrics import LOSS
    from edgeft.recipe.gates import GateError, parse

    if lines and before is None:
        raise UsageError("--gate compares with an earlier evaluation", do="say which: --against FOLDER")
    known = {suite.name: (*suite.metrics, LOSS) for suite in suites}
    parsed = []
    for line in lines:
        try:
            gate = parse(line, known, [])
        except GateError as error:
            raise UsageError(f"gate {line!r}: {error}", do=error.do) from None
        if gate.suite is None:
            raise UsageError(f"gate {line!r}: {gate.metric} is judged in recipes only", do="name SUITE.METRIC")
        parsed.append(gate)
    return parsed


def compare(before: Rows, after: Rows, gates: Sequence[Gate]) -> Compared:
    """All suites and metrics that both have, in pairs; p values adjusted by Holm's method for all of them."""
    from edgeft.evals import scores, statistics
    from edgeft.evals.gates import settle
    from edgeft.evals.measured import change_of, measure, p_value_of

    found: list[dict[str, Any]] = []
    named = set(scores.suite_names(before))
    for suite in (name for name in scores.suite_names(after) if name in named):
        pairs = scores.pair(scores.of_suite(before, suite), scores.of_suite(after, suite), suite)
        first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        shared = set(scores.metrics_of(first))
        for metric in (name for name in scores.metrics_of(second) if name in shared):
            entry = scores.as_json(change_of(first, second, metric))
            found.append({"suite": suite, "metric": metric, **entry, "p_value": p_value_of(first, second, metric)})
    if not found:
        raise InputError("the earlier evaluation has none of these suites", do="ask the same suites by the same names")
    tested = [entry for entry in found if entry["p_value"] is not None]
    adjusted = statistics.holm([entry["p_value"] for entry in tested])
    for entry, p_value in zip(tested, adjusted, strict=True):
        entry["p_adjusted"] = round(p_value, scores.DIGITS)
    return Compared(found, settle([measure(gate, after, before) for gate in gates]))


def show(compared: Compared, *, quiet: bool) -> None:
    """Print what was compared (unless `quiet`); a `JudgementError` when a check failed."""
    from edgeft.cli.faults import printable

    if not quiet:
        click.echo(
            f"\n{'against before':<20} {'metric':<18} {'change':>8}  {'95 % interval':<18} {'rows':>5}  p (Holm)"
        )
        for entry in compared.differences:
            interval = f"{entry['low']:+.4f} to {entry['high']:+.4f}" if entry["low"] is not None else ""
            p_value = f"{entry['p_adjusted']:.3g}" if "p_adjusted" in entry else ""
            name = printable(f"{entry['suite']:<20.20} {entry['metric']:<18}")
            click.echo(f"{name} {entry['value']:>+8.4f}  {interval:<18} {entry['n']:>5}  {p_value}")
        for check in compared.checks:
            status = click.style(f"{check.status:<10}", fg="green" if check.passed else "red")
            click.echo(f"{status} {printable(check.gate)}: {printable(check.detail)}")
    failed = [check for check in compared.checks if not check.passed]
    if failed:
        raise JudgementError(f"{len(failed)} of {len(compared.checks)} gates failed: {failed[0].gate}")
