"""The `verify` stage of a file that ends in a head for labels: its probabilities against those of the trained head.

Always required: the same labels, equal token ids, probabilities near the trained ones, labels as often right. On top
come the gates that name this export, on figures and on suites asked again. Called by `verify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from edgeft import files
from edgeft.artifact import Outcome
from edgeft.errors import EdgeftError, Interrupted, MissingError
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.judging import Suite
from edgeft.stages.cases import spread
from edgeft.stages.eval import questions_of, write
from edgeft.stages.labelled import open_head
from edgeft.stages.verified import FIDELITY, Asked, answers, gates, judged

if TYPE_CHECKING:
    from edgeft.evals.evaluate import Evaluation
    from edgeft.evals.gates import Check


class Params(Asked, Protocol):
    """What is read of the `verify` stage's parameters."""

    @property
    def rows(self) -> Any: ...

    @property
    def limit(self) -> int | None: ...

    @property
    def text_limit(self) -> int: ...

    @property
    def suites(self) -> dict[str, Suite]: ...


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    from edgeft.evals import probabilities
    from edgeft.evals.gates import required
    from edgeft.evals.scores import ROWS, read_rows
    from edgeft.runtimes.onnx_classifier import open_folder

    questions = questions_of(params.suites, inputs)
    rows = spread(_rows(inputs, params.rows), params.text_limit)
    checks: list[Check] = []
    found: dict[str, Any] = {}
    evaluation: Evaluation | None = None
    speed: Mapping[str, Any] = {}
    with ExitStack() as stack:
        reference = stack.enter_context(open_head(inputs))
        try:
            candidate = stack.enter_context(open_folder(inputs["export"].path))
            found = probabilities.examine(reference, candidate, rows, limit=params.limit, listen=work.listen)
            evaluation, waited = answers(params, questions, candidate, work)
        except (Interrupted, MissingError):
            raise
        except EdgeftError as error:
            checks.append(required("runs in its own runtime", False, str(error)))
    if found:
        type_name = str(inputs["export"].params.get("type") or candidate.name.partition(" ")[2])
        checks += probabilities.requirements(found, type_name)
        files.write_json(work.folder / FIDELITY, found)
    if evaluation:
        speed = write(work.folder, evaluation, waited)
    tuned = inputs.get("tuned")
    known = read_rows(tuned.file(ROWS)) if tuned else []
    checks += gates(params, found, evaluation, known, speed)
    return judged(work, inputs["export"], checks, found, evaluation, speed)


def _rows(inputs: Inputs, split: str) -> Sequence[tuple[str, Any, str]]:
    """(id, text or conversation, label) of each row of a split; of all splits when it has none."""
    data = inputs["data"]
    for name in (split, "test", "validation", "train"):
        if f"{name}.jsonl" in data.files:
            return [
                (str(row["id"]), row["text"] if "text" in row else row["prompt"], str(row["label"]))
                for row in files.read_jsonl(data.file(f"{name}.jsonl"))
                if "label" in row
            ]
    return []
