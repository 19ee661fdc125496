"""`eval:`, `probe:` and `gate:` of a recipe: what the models are asked and what must hold. Part of
`edgeft.recipe.schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgeft.recipe.names import (
    ASKED_OF_HEADS,
    BUILTIN_FAMILIES,
    HARNESS_METRICS,
    HARNESS_PREFIX,
    KIND_METRICS,
    LOSS,
    DataType,
    Metric,
    SuiteKind,
)
from edgeft.recipe.section import Name, Section, Text


class JudgeSection(Section):
    """`judge:` another model that judges answers, behind an endpoint with OpenAI's chat interface."""

    base_url: Text = Field(description="where it is, such as `http://localhost:8000/v1`")
    model: Text = Field(description="its name there")
    prompt: Text | None = Field(None, description="what it is asked, with {question}, {expected} and {answer}")
    scale: float = Field(10, gt=0, description="the number that it says of a perfect answer")
    max_tokens: int = Field(256, ge=1, description="tokens of its answer")
    api_key_env: Text | None = Field(
        None, description="the environment variable that holds its key, which is written nowhere"
    )


class Suite(Section):
    """One set of questions and how the answers are scored."""

    rows: Text = Field(
        description="`test`, `validation`, `builtin:general`, `lm-eval:TASK`, or a file of rows, relative to the recipe"
    )
    type: DataType | None = Field(None, description="of a file of conversations: the form of its rows")
    kind: SuiteKind = Field(
        "generation",
        description="what is asked: an answer, the likeliest of several, the better of two, how likely a text is, a "
        "head's label (the default of objective: classification; of objective: reward the better of two)",
    )
    metrics: list[Metric] = Field(["exact_match"], min_length=1, description="how answers are scored; loss always is")
    max_tokens: int = Field(128, ge=1, description="tokens of the longest answer")
    limit: int | None = Field(None, ge=1, description="only this many rows, spread evenly")
    system: Text | None = Field(None, description="a system turn for rows that have none")
    few_shot: int = Field(0, ge=0, description="answered examples before each question")
    few_shot_rows: Text | None = Field(
        None, description="`train`, `validation`, `test` or a file they are taken from; default the suite's own rows"
    )
    few_shot_seed: int = Field(0, ge=0, description="which ones")
    stop: list[Text] = Field([], description="texts that end an answer")
    few_shot_multiturn: bool = Field(
        True, description="of lm-eval tasks asked through the chat template: each example as turns of its own"
    )
    include_path: Text | None = Field(
        None, description="of lm-eval tasks: a folder of task files of your own, relative to the recipe"
    )
    chat: bool = Field(True, description="ask through the model's chat template; false: the plain texts of the turns")
    pattern: Text | None = Field(None, description="of the metric regex; {expected} in it is the expected answer")
    json_schema: Text | None = Field(None, description="a JSON Schema file, of the metrics json_valid and json_fields")
    judge: JudgeSection | None = Field(None, description="of the metric judge")
    window: int | None = Field(None, ge=2, description="of perplexity: tokens read at once; default the whole context")
    overlap: int = Field(1, ge=1, description="of perplexity: tokens of the text before that each window reads again")

    @model_validator(mode="before")
    @classmethod
    def _default_metrics(cls, values: Any) -> Any:
        if isinstance(values, dict) and "metrics" not in values and values.get("kind") in KIND_METRICS:
            return {**values, "metrics": list(KIND_METRICS[values["kind"]])}
        return values

    def of_head(self, objective: str) -> Suite:
        """The same suite asking what the head of that objective can tell, where it does not say what it asks for."""
        if "kind" in self.model_fields_set or self.task is not None:
            return self
        kind, metrics = ASKED_OF_HEADS[objective]
        wanted = self.metrics if "metrics" in self.model_fields_set else list(metrics)
        return self.model_copy(update={"kind": kind, "metrics": wanted})

    @property
    def task(self) -> str | None:
        """The lm-eval task that has the rows, if one does."""
        return self.rows.removeprefix(HARNESS_PREFIX) if self.rows.startswith(HARNESS_PREFIX) else None


class EvalSection(Section):
    """`eval:` what base and tuned model are asked."""

    suites: dict[Name, Suite] = Field(min_length=1, description="suites by name")


class ProbeSection(Section):
    """`probe:` what every tune is asked besides the suites: did it forget, did it learn by heart?"""

    rows: int = Field(
        64,
        ge=0,
        description="training rows, and as many validation rows, that are completed: which are known by heart",
    )
    drift: bool = Field(True, description="how far the tuned model is from the base on packaged neutral texts")


class GateSection(Section):
    """`gate:` a list of lines, or these keys. What must hold before anything is exported."""

    checks: list[Text] = Field([], description="lines such as `task.exact_match >= 0.90`")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "pass",
        description="what a check with too few rows to tell does: pass (what is told of it stops nothing), fail (only "
        "what is proven ships), or go by the estimate",
    )


def _gate_form(value: Any) -> Any:
    return {"checks": value} if isinstance(value, list) else value


Gates = Annotated[GateSection, BeforeValidator(_gate_form)]


def suite_metrics(suites: Mapping[str, Suite]) -> dict[str, tuple[str, ...]]:
    """Suite name -> metrics that gates may name, loss included; also "suite/family" for families of packaged rows."""
    found: dict[str, tuple[str, ...]] = {}
    for name, suite in suites.items():
        metrics = HARNESS_METRICS if suite.task else (*suite.metrics, LOSS)
        found[name] = metrics
        found |= {f"{name}/{family}": metrics for family in BUILTIN_FAMILIES.get(suite.rows, ())}
    return found
