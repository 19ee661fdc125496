"""The `gate` stage: judge the tuned model against the base. A failing verdict stops every export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras, files
from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.gates import Gate

if TYPE_CHECKING:
    from edgeft.evals.gates import Check

VERSION = 1
VERDICT = "verdict.json"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    checks: list[Gate] = Field(description="the parsed gate lines of the tuned model")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "estimate", description="what a check with too few rows to tell does"
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    from edgeft.evals.gates import judge
    from edgeft.evals.scores import ROWS, read_rows

    base, tuned = (read_rows(inputs[role].file(ROWS)) for role in ("base", "tuned"))
    checks = [judge(gate, tuned, base, undecided=params.undecided) for gate in params.checks]
    return verdict(work.folder, checks, "the tuned model")


def verdict(folder: Path, checks: Sequence[Check], what: str) -> Outcome:
    """Write verdict.json; the outcome's facts tell why it failed, so that no file has to be read for it."""
    passed = all(check.passed for check in checks)
    failed = [check for check in checks if not check.passed]
    sentence = f"{what} passes {_count(checks)}" if passed else f"{what} fails {len(failed)} of {_count(checks)}"
    content: dict[str, Any] = {
        "passed": passed,
        "sentence": sentence,
        "checks": [check.as_json() for check in checks],
    }
    files.write_json(folder / VERDICT, content)
    facts = {"sentence": sentence, "why": [f"{check.gate}: {check.detail}" for check in failed]}
    return Outcome("verdict", facts=facts, passed=passed)


def _count(checks: Sequence[Check]) -> str:
    return f"{len(checks)} check" + ("" if len(checks) == 1 else "s")
