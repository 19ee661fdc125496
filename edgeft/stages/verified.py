"""What the verification of an answering file and that of a classifier have in common: the suites asked again, the gates
that name the export, the facts. Used by `verify` and `verify_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Work
from edgeft.recipe.gates import Gate
from edgeft.stages.eval import SPEED
from edgeft.stages.gate import of_time, settled, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.gates import Check
    from edgeft.evals.suites import Suite as Questions
    from edgeft.runtimes.classifier import Classifier
    from edgeft.runtimes.protocol import Runtime

FIDELITY = "fidelity.json"


class Asked(Protocol):
    """What is read of the `verify` stage's parameters."""

    @property
    def checks(self) -> list[Gate]: ...
    @property
    def undecided(self) -> Literal["estimate", "pass", "fail"]: ...
    @property
    def latency_rows(self) -> int: ...
    @property
    def latency_limit(self) -> float: ...
    @property
    def batch_size(self) -> int: ...


def name_of(export: Artifact) -> str:
    return f"{export.params.get('format', export.kind)}-{export.params.get('type', '')}".rstrip("-")


def answers(
    params: Asked, questions: list[Questions], candidate: Runtime | Classifier, work: Work
) -> tuple[Evaluation | None, dict[str, Any]]:
    from edgeft.evals.evaluate import evaluate, latency

    if not questions:
        return None, {}
    evaluation = evaluate(candidate, questions, work.listen, batch_size=params.batch_size)
    return evaluation, latency(candidate, questions, params.latency_rows, most=params.latency_limit)


def gates(
    params: Asked,
    found: Mapping[str, Any],
    evaluation: Evaluation | None,
    tuned: list[Any],
    speed: Mapping[str, Any],
) -> list[Check]:
    """The recipe's gates of this export. What could not be measured fails: a file that did not run has no score."""
    from edgeft.evals.fidelity import figures
    from edgeft.evals.gates import measure, measure_figure, required

    measured = figures(dict(found)) if found else {}
    judged: list[Any] = []
    for gate in params.checks:
        if gate.timed and evaluation is not None:
            judged.append(of_time(gate, speed))
        elif gate.suite is None and gate.metric in measured:
            judged.append(measure_figure(gate, measured))
        elif gate.suite is not None and evaluation is not None:
            judged.append(measure(gate, evaluation.rows, tuned))
        else:
            judged.append(required(gate.text, False, "could not be measured: the file did not run"))
    return settled(judged, params.undecided)


def figures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The handful of figures that a table of files shows."""
    from edgeft.evals.fidelity import figures

    return {name: estimate.value for name, estimate in figures(dict(found)).items()} if found else {}


def judged(
    work: Work,
    export: Artifact,
    checks: Sequence[Check],
    found: Mapping[str, Any],
    evaluation: Evaluation | None,
    speed: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Outcome:
    """The verdict on the file, written."""
    outcome = verdict(work.folder, checks, f"the file {name_of(export)}", notes=notes)
    return Outcome(
        "verdict",
        facts={**outcome.facts, **figures_of(found)},
        measurements={**speed, **outcome.measurements},
        passed=outcome.passed,
        volatile=(*outcome.volatile, *((SPEED,) if evaluation else ())),
    )
