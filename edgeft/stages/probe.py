"""The `probe` stage: what every tune is asked, whatever its recipe measures. Did it forget, did it learn by heart?

drift        KL of the tuned model from the base on neutral texts packaged with edgeft: no data of the user's is needed
memorised    training rows that it completes word for word, against validation rows
overfit      loss on validation rows above that on training rows; the validation loss at the end of training above its
             lowest
leakage      the shares of validation and test rows that are training rows too, as the data stage counted them

`figures.json` holds what gates may name (`edgeft.recipe.names.PROBE`), each with n and a 95 % interval; `drift.json`
and `known.jsonl` what they are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeft import extras, files
from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages.cases import answered, spread

if TYPE_CHECKING:
    from edgeft.evals.estimate import Estimate
    from edgeft.evals.memorised import Known
    from edgeft.runtimes.protocol import Runtime

VERSION = 1
FIGURES, DRIFT, ROWS = "figures.json", "drift.json", "known.jsonl"
SPLITS = ("validation", "test")


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    rows: int = Field(64, ge=0, description="training rows, and as many validation rows, that are completed")
    drift: bool = Field(True, description="measure the drift on neutral texts")
    builtin: str = Field("", description="digest of those texts; filled in")

    @model_validator(mode="before")
    @classmethod
    def _fill_builtin(cls, values: Any) -> Any:
        from edgeft.evals.suites import builtin_files

        digests = {path.name: files.digest_file(path) for path in builtin_files("builtin:text")}
        return {**values, "builtin": files.digest_text(files.canonical_json(digests))}


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Inputs adapter, data; source base."""
    extras.require("train")
    extras.require("eval")
    from edgeft.evals import drift, memorised

    found: dict[str, Estimate] = {}
    said: drift.Said = None
    if params.drift:
        with open_base(inputs) as base:
            said = drift.read(base, work.scratch / "base.f32", listen=work.listen)
    with open_tuned(inputs) as tuned:
        known = {split: _asked(tuned, params, inputs, split, work) for split in ("train", "validation")}
        if params.drift:
            measured = drift.measure(said, tuned, listen=work.listen)
            files.write_json(work.folder / DRIFT, measured)
            found |= drift.figures(measured)
    if said is not None:
        said[0].remove()
    found |= memorised.figures(known["train"], known["validation"])
    found |= _risen(inputs["adapter"]) | _leaked(inputs["data"])
    files.write_jsonl(work.folder / ROWS, [row for side in known.values() for row in side.rows])
    table = {name: _json(estimate) for name, estimate in found.items()}
    files.write_json(work.folder / FIGURES, table)
    notes = notes_in(table)
    return Outcome("probe", facts={**{name: entry["value"] for name, entry in table.items()}, "notes": notes})


def open_tuned(inputs: Inputs) -> Runtime:
    from edgeft.runtimes import open_hf

    return open_hf(inputs.sources["base"], adapter=inputs["adapter"].path)


def open_base(inputs: Inputs) -> Runtime:
    from edgeft.runtimes import open_hf

    return open_hf(inputs.sources["base"])


def _asked(tuned: Runtime, params: Params, inputs: Inputs, split: str, work: Work) -> Known:
    from edgeft.evals.memorised import ask

    path = inputs["data"].path / f"{split}.jsonl"
    rows = list(answered(files.read_jsonl(path))) if params.rows and path.is_file() else []
    return ask(tuned, spread(rows, params.rows), split, listen=work.listen)


def _risen(adapter: Artifact) -> dict[str, Estimate]:
    """The validation loss of the last evaluation above the lowest one; 0 when training went back to that one."""
    from edgeft.evals.estimate import Estimate

    path = adapter.path / "curve.jsonl"
    points = [row["eval_loss"] for row in files.read_jsonl(path) if "eval_loss" in row] if path.is_file() else []
    if not points:
        return {}
    rise = 0.0 if adapter.params.get("early_stopping_patience") else points[-1] - min(points)
    return {"overfit.rise": Estimate(rise, len(points), rise, rise)}


def _leaked(data: Artifact) -> dict[str, Estimate]:
    """Shares of the splits' rows that training saw, from stats.json; a split that it says nothing of is left out."""
    from edgeft.evals.estimate import Estimate

    path = data.path / "stats.json"
    stats = files.read_json(path) if path.is_file() else {}
    found = {}
    for split in SPLITS:
        same = (stats.get("leakage") or {}).get(split, {}).get("rows")
        rows = (stats.get("splits") or {}).get(split, {}).get("rows")
        if isinstance(same, int) and rows:
            found[f"leakage.{split}"] = Estimate(same / rows, rows, same / rows, same / rows)
    return found


def _json(found: Estimate) -> dict[str, Any]:
    from edgeft.evals.scores import as_json

    return as_json(found)


def notes_of(probe: Artifact | None) -> list[str]:
    """What a verdict tells of the tune besides its gates."""
    if probe is None or not (probe.path / FIGURES).is_file():
        return []
    return notes_in(files.read_json(probe.path / FIGURES))


def notes_in(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each thing that was measured."""
    return list(_notes(figures))


def _notes(figures: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    if "drift.mean_kl" in figures:
        kl, ratio = figures["drift.mean_kl"], figures["drift.perplexity_ratio"]
        yield (
            f"on neutral texts the tuned model is {kl['value']:.4g} nats per token from the base{_interval(kl)}, "
            f"its perplexity there {ratio['value']:.4g} times the base's{_interval(ratio)}"
        )
    if "memorised.train" in figures:
        train, other = figures["memorised.train"], figures.get("memorised.validation")
        text = f"{train['value']:.0%} of {train['n']} training rows are completed word for word"
        yield text + (f", {other['value']:.0%} of {other['n']} validation rows" if other else "")
    if "overfit.gap" in figures:
        gap = figures["overfit.gap"]
        above = f"{gap['value']:.3g} nats per token above that on training rows"
        yield f"the loss on validation rows is {above}{_interval(gap)}"
    if figures.get("overfit.rise", {}).get("value"):
        yield f"the validation loss ended {figures['overfit.rise']['value']:.3g} above its lowest"
    for split in SPLITS:
        leak = figures.get(f"leakage.{split}")
        if leak and leak["value"]:
            yield f"{round(leak['value'] * leak['n'])} of {leak['n']} {split} rows are training rows too"


def _interval(entry: Mapping[str, Any]) -> str:
    return "" if entry["low"] is None else f" (95 % interval {entry['low']:.4g} to {entry['high']:.4g})"
