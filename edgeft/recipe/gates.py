"""Gate lines: `task.exact_match >= 0.90`, `general/arithmetic.exact_match drop <= 0.03`, `gguf-q8_0.mean_kl <= 0.01`.

    [EXPORT.][SUITE[/FAMILY].]METRIC [drop | rise] (>= | <= | > | <) NUMBER[% | ms | s]

Without an export the line judges the tuned model (against the base model when it says `drop` or `rise`); with one it
judges the exported file (against the tuned model). `drop` is baseline - value, `rise` is value - baseline; with `%`
they are relative to the baseline. A plain level with `%` is that number of hundredths (`>= 90%` is `>= 0.9`).

Without a suite stand what is measured of every file (`names.FIDELITY`), of every tune (`names.PROBE`:
`drift.mean_kl <= 0.1`) and times (`names.SPEED`: `p95_latency <= 200ms`). `accuracy` is the share of right answers: a
suite that has no metric of that name means its exact_match by it.
Parsed when the recipe loads; used by `edgeft.stages.targets`, the `gate` and the `verify` stage.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from edgeft.recipe.names import FIDELITY, HARNESS_METRICS, HARNESS_WHOLE, LATENCY, LOSS, PROBE, SPEED, UNBOUNDED
from edgeft.registry import suggestion

Kind = Literal["level", "drop", "rise"]
OPERATORS = (">=", "<=", ">", "<")
_LINE = re.compile(
    r"^\s*(?P<name>[^\s<>=]+)(?:\s+(?P<kind>[A-Za-z_]+))?\s*(?P<op>[<>=!]+)\s*(?P<limit>[^\s%]+?)\s*(?P<unit>%|ms|s)?\s*$",
    re.ASCII,
)
ACCURACY, EXACT = "accuracy", "exact_match"
_SECONDS = {"ms": 1e-3, "s": 1.0}
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$", re.ASCII)


class GateError(ValueError):
    """A gate line that cannot be read. `offset` is where in the line (from 0); `do` says how to mend it."""

    def __init__(self, what: str, offset: int, do: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.do = do


@dataclass(frozen=True)
class Gate:
    """One parsed line. `limit` of a relative gate is a fraction of the baseline (3% is 0.03), of a latency seconds."""

    text: str
    scope: str | None  # an export's name, or None for the tuned model
    suite: str | None  # "general" or "general/arithmetic"; None for a figure that needs no suite
    metric: str
    op: str  # one of OPERATORS
    limit: float
    kind: Kind
    relative: bool = False

    @property
    def timed(self) -> bool:
        """Whether it judges a time, which no two measurements agree on."""
        return self.metric in SPEED and self.suite is None

    def holds(self, figure: float) -> bool:
        """Whether a figure (the level, the drop or the rise; relative when the gate is) is within the limit."""
        if self.op == ">=":
            return figure >= self.limit
        if self.op == "<=":
            return figure <= self.limit
        return figure > self.limit if self.op == ">" else figure < self.limit

    def figure(self, value: float, base: float | None) -> float:
        """What is compared with the limit, from the value and its baseline (None only for a level). A relative change
        from a baseline of 0 is infinite, or 0 when nothing changed."""
        if self.kind == "level":
            return value
        if base is None:
            raise ValueError(f"{self.text!r} needs a baseline")
        change = base - value if self.kind == "drop" else value - base
        if not self.relative:
            return change
        if base == 0:
            return 0.0 if change == 0 else math.copysign(math.inf, change)
        return change / abs(base)


def parse(line: str, suites: Mapping[str, Collection[str]], exports: Collection[str]) -> Gate:
    """Read one line; `suites` maps each suite to its metrics (loss included). Raises `GateError`."""
    match = _LINE.match(line)
    if match is None:
        raise GateError("this is not a gate line", 0, "write it like: task.exact_match >= 0.90")
    kind = _kind(match)
    op = match["op"]
    if op not in OPERATORS:
        raise GateError(f"unknown comparison {op!r}", match.start("op"), f"use one of {' '.join(OPERATORS)}")
    scope, suite, metric = _name(match["name"], match.start("name"), suites, exports)
    if suite is None and kind != "level":
        compared = "the tuned model with the base" if metric in PROBE else "the file with the trained model"
        what = f"is a time of one model, so it has no {kind}" if metric in SPEED else None
        raise GateError(
            f"{metric} {what or f'already compares {compared}, so it has no {kind}'}",
            match.start("kind"),
            f"write it like: {match['name']} {op} {match['limit']}{match['unit'] or ''}",
        )
    limit = _limit(match, kind, metric if suite is None else "")
    percent = match["unit"] == "%"
    if metric not in UNBOUNDED and (kind == "level" or not percent) and not 0 <= limit <= 1:
        do = f"write {match['limit']}%" if not percent and 1 < limit <= 100 else "write a number from 0 to 1"
        raise GateError(f"{metric} lies between 0 and 1", match.start("limit"), do)
    return Gate(line.strip(), scope, suite, metric, op, limit, kind, relative=percent and kind != "level")


def _kind(match: re.Match[str]) -> Kind:
    word = match["kind"]
    if word is None:
        return "level"
    if word == "drop":
        return "drop"
    if word == "rise":
        return "rise"
    raise GateError(f"unknown word {word!r}", match.start("kind"), suggestion(word, ("drop", "rise")))


def _limit(match: re.Match[str], kind: Kind, figure: str) -> float:
    """The number behind the comparison; `figure` is the name of one that needs no suite."""
    text, offset, unit = match["limit"], match.start("limit"), match["unit"]
    if not _NUMBER.match(text) or not math.isfinite(float(text)):
        raise GateError(f"{text!r} is not a number", offset, "write the limit as a number, like 0.03 or 3%")
    if figure in LATENCY:
        if unit not in _SECONDS:
            raise GateError(f"{figure} is a time", offset, f"write its unit: {text}ms or {text}s")
        return float(text) * _SECONDS[unit]
    if unit in _SECONDS:
        raise GateError(f"{unit!r} is a unit of time, and this is none", match.start("unit"), "leave it out")
    limit = float(text) / 100 if unit == "%" else float(text)
    if kind != "level" and limit < 0:
        raise GateError(f"the limit of a {kind} is negative", offset, "allow a drop or a rise of 0 or more")
    return limit


def _name(
    name: str, offset: int, suites: Mapping[str, Collection[str]], exports: Collection[str]
) -> tuple[str | None, str | None, str]:
    """(export, suite, metric) of a dotted name; each part must be known."""
    parts = name.split(".")
    if parts[0] in exports:
        scope, parts = parts[0], parts[1:]
        if len(parts) == 1 and parts[0] in (*FIDELITY, *SPEED):
            return scope, None, parts[0]
        if len(parts) == 1:
            known = [*FIDELITY, *SPEED, *suites]
            raise GateError(
                f"unknown figure {parts[0]!r} of {scope}", offset + len(scope) + 1, suggestion(parts[0], known)
            )
    else:
        scope = None
        if name in PROBE or name in SPEED:
            return None, None, name
        if len(parts) == 2 and parts[0] not in suites and any(figure.startswith(f"{parts[0]}.") for figure in PROBE):
            raise GateError(f"there is no figure {name!r}", offset, suggestion(name, PROBE))
    start = offset if scope is None else offset + len(scope) + 1
    if scope is None and len(parts) == 3:
        do = suggestion(parts[0], exports) if exports else "the recipe exports nothing"
        raise GateError(f"unknown export {parts[0]!r}", offset, do)
    if len(parts) != 2 or not all(parts):
        raise GateError(f"{name!r} is not SUITE.METRIC or EXPORT.SUITE.METRIC", offset, _example(suites))
    suite, metric = parts
    return scope, suite, _metric(suite, metric, start, suites, exports)


def _metric(
    suite: str, metric: str, start: int, suites: Mapping[str, Collection[str]], exports: Collection[str]
) -> str:
    """The metric meant, of a suite or of a family of one. Families of packaged rows are known here; those of a user's
    own rows are found when they are asked."""
    whole, slash, family = suite.partition("/")
    known = suite if suite in suites else whole
    families = [name for name in suites if name.startswith(f"{whole}/")]
    if known not in suites or (slash and not family):
        raise GateError(f"unknown suite {suite!r}", start, _suite_hint(suite, metric, suites, exports))
    if slash and families and suite not in suites:
        raise GateError(
            f"suite {whole!r} has no family {family!r}", start + len(whole) + 1, suggestion(suite, families)
        )
    if metric == ACCURACY and metric not in suites[known] and EXACT in suites[known]:
        return EXACT
    harness = suites[known] == HARNESS_METRICS
    if harness and metric in HARNESS_WHOLE:
        what = f"{metric} is a figure of all rows of a task together, so that none can be paired"
        raise GateError(what, start + len(suite) + 1, f"use one that rows have: {', '.join(HARNESS_METRICS)}")
    unfiltered = metric.partition("@")[0] if harness else metric
    if unfiltered not in suites[known]:
        raise GateError(
            f"suite {suite!r} has no metric {metric!r}", start + len(suite) + 1, suggestion(metric, suites[known])
        )
    return metric


def _suite_hint(suite: str, metric: str, suites: Mapping[str, Collection[str]], exports: Collection[str]) -> str:
    if metric in FIDELITY:
        return (
            f"{metric} is measured per export: {suggestion(suite, exports)}"
            if exports
            else "the recipe exports nothing"
        )
    return suggestion(suite, suites) if suites else "the recipe has no eval suites"


def _example(suites: Mapping[str, Collection[str]]) -> str:
    suite = next(iter(suites), "task")
    metric = next((name for name in suites.get(suite, ()) if name != LOSS), "exact_match")
    return f"write it like: {suite}.{metric} >= 0.90"
