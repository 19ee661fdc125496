"""The `merge_base` stage (of recipes with `merge_base: auto`): which base to fold the adapter into, by measurement.

The adapter was trained on the 4-bit base. Folded into that base dequantized, or into the pristine one: both candidates
are made as they would ship (`export`: the merged checkpoint, or one quantized file) and compared with the trained
model on validation rows. The smaller mean KL is taken; where they are equal, the base that was trained on.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras, files
from edgeft.artifact import Outcome
from edgeft.errors import InputError
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.names import Metric
from edgeft.stages.eval import open_model
from edgeft.stages.export import CHOICE, imatrix_of, options_of, source_of

if TYPE_CHECKING:
    from edgeft.evals.recorded import Recorded, Row
    from edgeft.evals.suites import Suite
    from edgeft.runtimes.protocol import Runtime

VERSION = 2
FIGURES = "figures.json"
CANDIDATES = ("dequantized", "pristine")  # the first is taken when both are equally near
RECORDED_BYTES = 2 << 30  # of the trained model's logits, kept in the scratch folder while candidates are compared
MERGED = "merged"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    export: str = Field(MERGED, description="what each candidate is made into: merged (the checkpoint), or an export")
    options: dict[str, str | int | list[tuple[str, str]]] = Field({}, description="of that export")
    limit: int = Field(64, ge=1, description="validation rows compared, spread evenly")
    metrics: list[Metric] = Field(["exact_match"], description="how the candidates' answers are scored")
    max_tokens: int = Field(128, ge=1, description="of one answer")
    threads: int | None = Field(
        None, ge=1, description="how many compute; default: all cores", json_schema_extra={"fingerprint": False}
    )
    quantizer: str | None = Field(
        None, description="who quantizes: auto, fast or ggml", json_schema_extra={"fingerprint": False}
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Measure both candidates. `choice.json` says which was taken; the figures are apart (volatile), so that another
    measurement with the same outcome rebuilds nothing."""
    extras.require("train")
    extras.require("eval")
    from edgeft.evals.suites import from_rows

    rows = list(files.read_jsonl(inputs["data"].file("validation.jsonl")))
    if not rows:
        raise InputError("there are no validation rows to measure the merge bases on", do="give data.validation")
    suite = from_rows("validation", rows, metrics=params.metrics, max_tokens=params.max_tokens, limit=params.limit)
    with open_model(inputs) as trained:
        reference, compared = _recorded(trained, suite, work)
        figures: dict[str, Any] = {"trained": _asked(trained, suite, work)}
    for name in CANDIDATES:
        with ExitStack() as stack:
            candidate = stack.enter_context(_made(params, inputs, name, work))
            figures[name] = _measured(reference, candidate, compared, work)
            if figures[name]["mean_kl"] is not None:
                figures[name] |= _asked(candidate, suite, work)
        files.remove_tree(_place(work))
    reference.remove()
    chosen = choose({name: figures[name]["mean_kl"] for name in CANDIDATES})
    content = {"chosen": chosen, "export": params.export}
    files.write_json(work.folder / CHOICE, content)
    files.write_json(work.folder / FIGURES, {**content, "rows": len(compared), "candidates": figures})
    facts: dict[str, Any] = {**content, "rows": len(compared), "candidates": figures}
    facts |= {f"{name}.mean_kl": figures[name]["mean_kl"] for name in CANDIDATES}  # what comparing two runs shows
    return Outcome("choice", facts=facts, volatile=(FIGURES,))


def choose(mean_kl: dict[str, float | None]) -> str:
    """The candidate nearest to the trained model; one whose logits are not finite (None) is never taken."""
    finite = {name: value for name, value in mean_kl.items() if value is not None}
    if not finite:
        raise InputError("neither merged candidate gives finite logits", do="train again with a lower learning_rate")
    return min(finite, key=lambda name: (finite[name], list(mean_kl).index(name)))


def _recorded(trained: Runtime, suite: Suite, work: Work) -> tuple[Recorded, list[Row]]:
    """The trained model's logits on as many of the rows as the scratch folder may hold."""
    from edgeft.evals.encoded import encode
    from edgeft.evals.recorded import fitting, record

    rows = [(case.id, encode(trained, case)) for case in suite.cases]
    rows = fitting(rows, trained.vocab_size, RECORDED_BYTES)
    return record(trained, rows, work.scratch / "trained.f32", work.listen), rows


def _place(work: Work) -> Path:
    return work.scratch / "candidate"


def _made(params: Params, inputs: Inputs, name: str, work: Work) -> Runtime:
    """A candidate, written below the scratch folder as it would ship and opened in its own runtime."""
    from edgeft.exporters import EXPORTS, hf
    from edgeft.registry import lookup
    from edgeft.runtimes import open_hf, open_runtime

    folder = _place(work)
    files.remove_tree(folder)
    folder.mkdir()
    source = source_of(inputs, name)
    options = {**params.options, **options_of(params.threads, params.quantizer), **imatrix_of(inputs)}
    if params.export == MERGED:
        hf.export(source, folder, options, work.listen)
        return open_hf(folder)
    format_, _, type_ = params.export.partition("-")
    lookup(EXPORTS, format_, "export format").load()(source, type_, folder, options, work.listen)
    return open_runtime(folder)


def _measured(reference: Recorded, candidate: Runtime, rows: list[Row], work: Work) -> dict[str, Any]:
    """How far the candidate is from the trained model; None everywhere when a logit is not finite."""
    from edgeft.evals.divergence import compare

    found = compare(reference, candidate, rows, work.listen).as_json()
    every = found["all"] if found["all"] and not found["not_finite"] else {}
    answer = found["answer"] if every else {}
    return {
        "mean_kl": every.get("mean_kl"),
        "answer_mean_kl": answer.get("mean_kl"),
        "p99_kl": every.get("p99_kl"),
        "top1_agreement": every.get("top1_agreement"),
    }


def _asked(runtime: Runtime, suite: Suite, work: Work) -> dict[str, float]:
    """Loss (nats per token of the expected answers) and scores of the answers."""
    from edgeft.evals.evaluate import evaluate

    summary = evaluate(runtime, [suite], work.listen).summary["validation"]
    return {metric: estimate["value"] for metric, estimate in summary.items()}
