"""The `eval` stage: ask a model the suites.

With an `adapter` input it is the model as trained (the adapter on the base in the precision it was trained on), without
one the pristine base: forgetting is measured against what the user had before. Suites that ask for labels are put to
the head (`edgeft.stages.labelled`); of a reward model the base is the same with the head as training starts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeft import extras, files
from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import HARNESS_PREFIX
from edgeft.stages.labelled import asks_labels, open_head

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.suites import Suite as Questions
    from edgeft.runtimes.classifier import Classifier
    from edgeft.runtimes.protocol import Runtime
    from edgeft.runtimes.reward import RewardModel

VERSION = 3
SUMMARY, SPEED, STATS = "summary.json", "speed.json", "stats.json"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    suites: dict[str, Suite] = Field(description="what is asked, by name")
    latency_rows: int = Field(12, ge=0, description="questions asked again one at a time, to see what one user waits")
    latency_limit: float = Field(5.0, gt=0, description="how long that may take, in s")
    batch_size: int = Field(64, ge=1, description="questions answered together")
    head: Literal["reward"] | None = Field(None, description="the head that values answers instead of writing some")
    builtin: dict[str, str] = Field({}, description="digests of the packaged rows that the suites use; filled in")

    @model_validator(mode="before")
    @classmethod
    def _fill_builtin(cls, values: Any) -> Any:
        return {**values, "builtin": builtin_digests(values["suites"])} if "suites" in values else values


def builtin_digests(suites: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the packaged rows, so that other rows in a later edgeft give another fingerprint."""
    from edgeft.evals.suites import BUILTIN_PREFIX, builtin_files

    found: dict[str, str] = {}
    for suite in suites.values():
        ref = suite["rows"] if isinstance(suite, dict) else suite.rows
        if ref.startswith(BUILTIN_PREFIX):
            digests = {path.name: files.digest_file(path) for path in builtin_files(ref)}
            found[ref] = files.digest_text(files.canonical_json(digests))
        elif ref.startswith(HARNESS_PREFIX):
            found[ref] = str(extras.version("lm-eval"))
    return found


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    from edgeft.evals.evaluate import evaluate, latency
    from edgeft.runtimes.reward import RewardModel

    questions = questions_of(params.suites, inputs)
    with _opened(params, inputs) as runtime:
        evaluation = evaluate(runtime, questions, work.listen, batch_size=params.batch_size)
        waited = {}
        if not isinstance(runtime, RewardModel):  # nobody waits for a reward
            waited = latency(runtime, questions, params.latency_rows, most=params.latency_limit)
        facts: dict[str, Any] = {"runtime": runtime.name, "rows": len(evaluation.rows)}
    facts |= figures(evaluation)
    measurements = write(work.folder, evaluation, waited)
    return Outcome("evaluation", facts=facts, measurements=measurements, volatile=(SPEED,))


def figures(evaluation: Evaluation) -> dict[str, float]:
    """{"SUITE.METRIC": value} of the whole suites: what comparing two runs shows."""
    return {
        f"{suite}.{metric}": estimate["value"]
        for suite, metrics in evaluation.summary.items()
        if "/" not in suite
        for metric, estimate in metrics.items()
    }


def write(folder: Path, evaluation: Evaluation, waited: Mapping[str, Any]) -> dict[str, Any]:
    """Write an evaluation's files; returns what was measured."""
    from edgeft.evals.scores import ROWS, write_rows

    write_rows(folder / ROWS, evaluation.rows)
    files.write_json(folder / SUMMARY, evaluation.summary)
    speed = {**evaluation.timing, "latency": dict(waited)}
    files.write_json(folder / SPEED, speed)
    return speed


def questions_of(suites: Mapping[str, Suite], inputs: Inputs) -> list[Questions]:
    """The suites with their rows: of the dataset artifact, packaged, or of the user's file (source `suites.NAME`)."""
    from edgeft.stages.questions import build

    return [build(name, suite, inputs) for name, suite in suites.items()]


def _opened(params: Params, inputs: Inputs) -> Runtime | Classifier | RewardModel:
    if params.head == "reward":
        from edgeft.runtimes import open_reward

        adapter = inputs.get("adapter")
        return open_reward(inputs.sources["base"], adapter.path if adapter else None)
    return open_head(inputs) if asks_labels(params.suites) else open_model(inputs)


def open_model(inputs: Inputs) -> Runtime:
    """The trained model when there is an adapter; else the base, asked through the recipe's chat template when it
    names one: both are given the same text, and a base may have no template, or one that knows no tools."""
    from edgeft.runtimes import open_hf

    adapter, data = inputs.get("adapter"), inputs.get("data")
    if adapter is not None:
        return open_hf(inputs.sources["base"], adapter=adapter.path)
    stats = files.read_json(data.file(STATS)) if data is not None and STATS in data.files else {}
    return open_hf(inputs.sources["base"], chat_template=stats.get("chat_template"))
