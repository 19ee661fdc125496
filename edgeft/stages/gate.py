"""The `gate` stage: judge the tuned model against the base, and what the probe found of the tune. A failing verdict
stops every export.

A gate on a time is judged by the times that the evaluation measured. They differ at every measurement, so verdict.json
says only how such a gate went, and the figures stand in timing.json, which is volatile: the same decision is the same
artifact, another decision is another one. A gate is judged again when what it judges was built again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras, files
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import InputError
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.gates import Gate
from edgeft.recipe.names import LATENCY
from edgeft.stages.eval import SPEED
from edgeft.stages.probe import FIGURES, notes_of

if TYPE_CHECKING:
    from edgeft.evals.gates import Check
    from edgeft.evals.measured import Measured

VERSION = 3
VERDICT, TIMING = "verdict.json", "timing.json"
SHARES = {"p50_latency": 0.5, "p95_latency": 0.95}


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    checks: list[Gate] = Field(description="the parsed gate lines of the tuned model")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "pass", description="what a check with too few rows to tell does"
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    from edgeft.evals.measured import measure

    base, tuned = (_rows(inputs.get(role)) for role in ("base", "tuned"))
    found: list[Measured | Check] = []
    for gate in params.checks:
        if gate.suite is not None:
            found.append(measure(gate, tuned, base))
        elif gate.timed:
            found.append(of_time(gate, _read(inputs.get("tuned"), SPEED)))
        else:
            found.append(_of_tune(gate, inputs.get("probe")))
    notes = notes_of(inputs.get("probe"))
    return verdict(work.folder, settled(found, params.undecided), "the tuned model", notes=notes)


def _rows(evaluation: Artifact | None) -> list[Any]:
    return rows_in(evaluation.path) if evaluation else []


def rows_in(folder: Path) -> list[Any]:
    """The rows of an evaluation or a verification, or of a folder of `edgeft eval --out`."""
    from edgeft.evals.scores import ROWS, read_rows

    if not (folder / ROWS).is_file():
        raise InputError(
            f"there is no evaluation here (no {ROWS})", where=folder, do="make one: edgeft eval --out FOLDER"
        )
    return read_rows(folder / ROWS)


def _read(artifact: Artifact | None, name: str) -> Any:
    return files.read_json(artifact.file(name)) if artifact else {}


def of_time(gate: Gate, speed: Mapping[str, Any]) -> Measured | Check:
    """A gate on a latency or a speed, by what an evaluation measured (its speed.json)."""
    from edgeft.evals.estimate import Estimate
    from edgeft.evals.gates import required
    from edgeft.evals.measured import measure_figure, measure_latency

    waited = speed.get("latency") or {}
    if not waited.get("seconds"):
        return required(gate.text, False, "could not be measured: no question was asked")
    if gate.metric in LATENCY:
        return measure_latency(gate, waited["seconds"], SHARES[gate.metric])
    if "tokens_per_second" not in waited:
        return required(gate.text, False, "could not be measured: a head for labels writes no tokens")
    value = float(waited["tokens_per_second"])
    return measure_figure(gate, {gate.metric: Estimate(value, len(waited["seconds"]), value, value)})


def _of_tune(gate: Gate, probe: Artifact | None) -> Measured | Check:
    from edgeft.evals.estimate import scaled
    from edgeft.evals.gates import required
    from edgeft.evals.measured import measure_figure

    known = _read(probe, FIGURES).get(gate.metric)
    if known is None or known["value"] is None:
        return required(gate.text, False, "could not be measured: there are no rows to measure it on")
    estimate = scaled(known["value"], known["n"], known["low"], known["high"])
    return measure_figure(gate, {gate.metric: estimate})


def settled(found: Sequence[Measured | Check], undecided: Literal["estimate", "pass", "fail"]) -> list[Check]:
    """The checks of one verdict in their order: what was measured is judged together."""
    from edgeft.evals.gates import settle
    from edgeft.evals.measured import Measured

    judged = iter(settle([item for item in found if isinstance(item, Measured)], undecided=undecided))
    return [next(judged) if isinstance(item, Measured) else item for item in found]


def verdict(folder: Path, checks: Sequence[Check], what: str, *, notes: Sequence[str] = ()) -> Outcome:
    """Write verdict.json (and timing.json, when times were judged); the outcome's facts tell why it failed, so that no
    file has to be read for it."""
    from edgeft.evals.gates import without_times

    passed = all(check.passed for check in checks)
    failed = [check for check in checks if not check.passed]
    sentence = f"{what} passes {_count(checks)}" if passed else f"{what} fails {len(failed)} of {_count(checks)}"
    unsure = sum(check.status == "undecided" for check in checks)
    if unsure:
        sentence += f"; {unsure} undecided: too few rows to tell"
    content: dict[str, Any] = {
        "passed": passed,
        "sentence": sentence,
        "checks": [without_times(check).as_json() for check in checks],
    }
    if notes:
        content["notes"] = list(notes)
    files.write_json(folder / VERDICT, content)
    timed = [check.as_json() for check in checks if check.timed]
    if timed:
        files.write_json(folder / TIMING, {"checks": timed})
    facts: dict[str, Any] = {
        "sentence": sentence,
        "why": [f"{check.gate}: {without_times(check).detail}" for check in failed],
    }
    if notes:
        facts["notes"] = list(notes)
    return Outcome(
        "verdict",
        facts=facts,
        measurements={"timing": timed} if timed else {},
        passed=passed,
        volatile=(TIMING,) if timed else (),
    )


def _count(checks: Sequence[Check]) -> str:
    return f"{len(checks)} check" + ("" if len(checks) == 1 else "s")
