"""The `verify` stage: open an exported file in its own runtime and judge it against the model that was trained.

Always required: conversations rendered alike, equal token ids, equal stop tokens, stopping as often, finite logits
that are near the trained model's. On top come the gates that name this export. A file that ends in a head for labels is
judged by `verify_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeft import extras, files
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import EdgeftError, Interrupted, MissingError
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.gates import Gate
from edgeft.recipe.judging import Suite
from edgeft.runtimes.onnx_classifier import is_classifier
from edgeft.stages import verify_labels
from edgeft.stages.cases import answered, spread
from edgeft.stages.eval import builtin_digests, open_model, questions_of, write
from edgeft.stages.export import source_of
from edgeft.stages.verified import FIDELITY, answers, gates, judged

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.gates import Check
    from edgeft.evals.questions import Case
    from edgeft.evals.suites import Suite as Questions
    from edgeft.runtimes.protocol import Runtime

VERSION = 4


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    rows: Literal["train", "validation", "test"] = Field(description="the split whose rows are compared")
    limit: int | None = Field(64, ge=1, description="rows compared by logits; null is all")
    text_limit: int = Field(1000, ge=1, description="rows compared by rendering and token ids")
    suites: dict[str, Suite] = Field({}, description="suites run again on the file")
    checks: list[Gate] = Field([], description="the parsed gate lines of this export")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "pass", description="what a check with too few rows to tell does"
    )
    latency_rows: int = Field(12, ge=0, description="questions asked again one at a time, to see what one user waits")
    latency_limit: float = Field(5.0, gt=0, description="how long that may take, in s")
    batch_size: int = Field(64, ge=1, description="questions answered together")
    builtin: dict[str, str] = Field({}, description="digests of the packaged rows that the suites use; filled in")

    @model_validator(mode="before")
    @classmethod
    def _fill_builtin(cls, values: Any) -> Any:
        return {**values, "builtin": builtin_digests(values.get("suites", {}))}


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    if is_classifier(inputs["export"].path):
        return verify_labels.run(params, inputs, work)
    from edgeft.evals import diagnosis, requirements
    from edgeft.evals import fidelity as judging
    from edgeft.evals.gates import required
    from edgeft.evals.scores import ROWS, read_rows

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
            evaluation, waited = answers(params, questions, candidate, work)
        except (Interrupted, MissingError):
            raise
        except EdgeftError as error:
            checks.append(required("runs in its own runtime", False, str(error)))
    if found:
        tuned = inputs.get("tuned")
        known = read_rows(tuned.file(ROWS)) if tuned else []
        found["answers"] = judging.compare_answers(known, evaluation.rows) if evaluation else {"n": 0}
        found["conversion"] = _conversion(inputs, work)
        type_name = _precision(inputs["export"])
        checks += [*requirements.requirements(found, type_name), *diagnosis.checks(found)]
        precision = requirements.precision_of(type_name)
        found["diagnosis"] = diagnosis.diagnose(found, precision, requirements.WORST_MEAN_KL[precision])
        files.write_json(work.folder / FIDELITY, found)
    if evaluation:
        speed = write(work.folder, evaluation, waited)
    checks += gates(params, found, evaluation, known if found else [], speed)
    named = [f"{entry['cause']}: {entry['what']} ({entry['detail']})" for entry in found.get("diagnosis", ())]
    return judged(work, inputs["export"], checks, found, evaluation, speed, named)


def _conversion(inputs: Inputs, work: Work) -> dict[str, Any] | None:
    """A file's settings and weights against those of its source; None for what is no whole model."""
    export = inputs["export"]
    if export.kind not in ("gguf", "onnx"):
        return None
    source = source_of(inputs, str(export.facts.get("merge_base") or "dequantized"))
    if export.kind == "onnx":
        from edgeft.exporters.onnx import differences as of_graphs

        graph = export.path / "model.onnx"
        whole = graph.is_file() and not any(export.path.glob("*.onnx_adapter"))
        return of_graphs.differences(source, graph, work.listen) if whole else None
    from edgeft.exporters.gguf.differences import differences

    files_there = [export.path] if export.path.is_file() else sorted(export.path.glob("*.gguf"))
    return differences(source, files_there[0], work.listen)


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


def _cases(params: Params, inputs: Inputs, questions: list[Questions]) -> list[Case]:
    """The rows to compare: of the split, each with its last answer; without any, the suites' own."""
    cases = list(answered(files.read_jsonl(inputs["data"].file(f"{params.rows}.jsonl"))))
    if not cases:
        cases = [case for suite in questions for case in suite.cases]
    return spread(cases, params.text_limit)
