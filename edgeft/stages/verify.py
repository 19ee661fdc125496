"""The `verify` stage: open an exported file in its own runtime and judge it against the model that was trained.

Always required: conversations rendered alike, equal token ids, equal stop tokens, stopping as often, finite logits
that are near the trained model's. On top come the gates that name this export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeft import extras, files
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import EdgeftError, Interrupted, MissingError
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.gates import Gate
from edgeft.recipe.schema import Suite
from edgeft.stages.eval import ROWS, SPEED, builtin_digests, open_model, questions_of, write
from edgeft.stages.export import source_of
from edgeft.stages.gate import verdict

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.gates import Check
    from edgeft.evals.suites import Case
    from edgeft.evals.suites import Suite as Questions
    from edgeft.runtimes.protocol import Runtime

VERSION = 2
FIDELITY = "fidelity.json"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    rows: Literal["train", "validation", "test"] = Field(description="the split whose rows are compared")
    limit: int | None = Field(64, ge=1, description="rows compared by logits; null is all")
    text_limit: int = Field(1000, ge=1, description="rows compared by rendering and token ids")
    suites: dict[str, Suite] = Field({}, description="suites run again on the file")
    checks: list[Gate] = Field([], description="the parsed gate lines of this export")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "estimate", description="what a check with too few rows to tell does"
    )
    latency_rows: int = Field(12, ge=0, description="questions asked again one at a time, to see what one user waits")
    batch_size: int = Field(64, ge=1, description="questions answered together")
    builtin: dict[str, str] = Field({}, description="digests of the packaged rows that the suites use; filled in")

    @model_validator(mode="before")
    @classmethod
    def _fill_builtin(cls, values: Any) -> Any:
        return {**values, "builtin": builtin_digests(values.get("suites", {}))}


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    from edgeft.evals import fidelity as judging
    from edgeft.evals.gates import required

    questions = questions_of(params.suites, inputs)
    cases = _cases(params, inputs, questions)
    checks: list[Check] = []
    found: dict[str, Any] = {}
    evaluation: Evaluation | None = None
    speed: Mapping[str, Any] = {}
    with ExitStack() as stack:
        reference = stack.enter_context(open_model(inputs))
        try:
            candidate = stack.enter_context(_candidate(inputs, work))
            found = judging.examine(reference, candidate, cases, logit_rows=params.limit, listen=work.listen)
            evaluation, waited = _answers(params, questions, candidate, work)
        except (Interrupted, MissingError):
            raise
        except EdgeftError as error:
            checks.append(required("runs in its own runtime", False, str(error)))
    if found:
        tuned = inputs.get("tuned")
        known = list(files.read_jsonl(tuned.file(ROWS))) if tuned else []
        found["answers"] = judging.compare_answers(known, evaluation.rows) if evaluation else {"n": 0}
        checks += judging.requirements(found, _precision(inputs["export"]))
        files.write_json(work.folder / FIDELITY, found)
    if evaluation:
        speed = write(work.folder, evaluation, waited)
    checks += _gates(params, found, evaluation, known if found else [])
    outcome = verdict(work.folder, checks, f"the file {_name(inputs['export'])}")
    return Outcome(
        "verdict",
        facts={**outcome.facts, **_facts(found)},
        measurements=speed,
        passed=outcome.passed,
        volatile=(SPEED,) if evaluation else (),
    )


def open_export(export: Artifact) -> Runtime:
    """The exported file in the runtime that will run it on the device."""
    from edgeft.runtimes import open_runtime

    return open_runtime(export.path)


def _candidate(inputs: Inputs, work: Work) -> Runtime:
    """The export, opened; an adapter as GGUF on the base file beside it, else on one made for the time being."""
    export = inputs["export"]
    if export.kind != "lora" or export.facts.get("base_file"):
        return open_export(export)
    from edgeft.exporters import EXPORTS
    from edgeft.exporters.gguf.lora import base_of, base_type
    from edgeft.runtimes import open_runtime

    source = base_of(source_of(inputs, str(export.facts.get("merge_base") or "dequantized")))
    folder = work.scratch / "base"
    files.remove_tree(folder)
    folder.mkdir(parents=True)
    made = EXPORTS["gguf"].load()(source, base_type(source), folder, {}, work.listen)
    return open_runtime(export.path, base=folder / made.facts["file"])


def _precision(export: Artifact) -> str:
    """The type that says how near the logits must be: of an adapter's base file, when that is quantized."""
    own, base = str(export.params.get("type", "")), export.facts.get("with_base")
    return own if base in (None, "f32", "f16", "bf16") else str(base)


def _name(export: Artifact) -> str:
    return f"{export.params.get('format', export.kind)}-{export.params.get('type', '')}".rstrip("-")


def _answers(
    params: Params, questions: list[Questions], candidate: Runtime, work: Work
) -> tuple[Evaluation | None, dict[str, float]]:
    from edgeft.evals.evaluate import evaluate, latency

    if not questions:
        return None, {}
    evaluation = evaluate(candidate, questions, work.listen, batch_size=params.batch_size)
    return evaluation, latency(candidate, questions, params.latency_rows)


def _gates(params: Params, found: Mapping[str, Any], evaluation: Evaluation | None, tuned: list[Any]) -> list[Check]:
    """The recipe's gates of this export. What could not be measured fails: a file that did not run has no score."""
    from edgeft.evals.fidelity import figures
    from edgeft.evals.gates import judge, judge_figure, required

    measured = figures(dict(found)) if found else {}
    checks = []
    for gate in params.checks:
        if gate.suite is None and gate.metric in measured:
            checks.append(judge_figure(gate, measured))
        elif gate.suite is not None and evaluation is not None:
            checks.append(judge(gate, evaluation.rows, tuned, undecided=params.undecided))
        else:
            checks.append(required(gate.text, False, "could not be measured: the file did not run"))
    return checks


def _cases(params: Params, inputs: Inputs, questions: list[Questions]) -> list[Case]:
    """The rows to compare: of the split, each with its last answer; without any, the suites' own."""
    cases = list(_answered(files.read_jsonl(inputs["data"].file(f"{params.rows}.jsonl"))))
    if not cases:
        cases = [case for suite in questions for case in suite.cases]
    count = min(params.text_limit, len(cases))
    return [cases[i * len(cases) // count] for i in range(count)]


def _answered(rows: Iterable[Mapping[str, Any]]) -> Iterable[Case]:
    """Rows cut after their last assistant turn; a row without one has nothing to compare."""
    from edgeft.evals.suites import Case

    for row in rows:
        messages = list(row.get("messages", ()))
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if len(messages) > 1:
            yield Case(str(row["id"]), tuple(messages[:-1]), messages[-1]["content"])


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """The handful of figures that a table of files shows."""
    from edgeft.evals.fidelity import figures

    return {name: value for name, (value, _) in figures(dict(found)).items()} if found else {}
