"""The `train` stage: a dataset and a base model in, the `adapter` artifact out (or, of full fine-tuning, a `model`). It
only joins; see `edgeft.training.run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.training import TrainSection

if TYPE_CHECKING:
    from edgeft.training.opened import Job

VERSION = 3


class Params(TrainSection):
    """The recipe's `train:` section, its seed, and how it names the base model (that name goes into the adapter)."""

    seed: int = Field(0, description="of the initial adapter weights, dropout and the order of rows")
    base_model: str = Field("", description="as the recipe writes it; empty: found out from where the base lies")
    previous: Literal["carry", "merge"] = Field("carry", description="what becomes of an earlier phase's adapter")


def job_of(params: Params, inputs: Inputs, work: Work) -> Job:
    """What `edgeft.training` is told. inputs data, adapter (of an earlier phase); sources base (model), teacher
    (model), rewards.N."""
    from edgeft.models.base import reference_of
    from edgeft.training.arguments import Settings
    from edgeft.training.opened import Job

    base, previous = inputs.sources["base"], inputs.get("adapter")
    fields = {name: _plain(getattr(params, name)) for name in type(params).model_fields if name != "base_model"}
    return Job(
        base=base,
        base_ref=params.base_model or reference_of(base),
        dataset=inputs["data"].path,
        folder=work.folder,
        scratch=work.scratch,
        settings=Settings(**fields),
        listen=work.listen,
        warn=work.warn,
        previous=previous.path if previous else None,
        files={role: path for role, path in inputs.sources.items() if role != "base"},
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Train; see `job_of`."""
    from edgeft.data.told import told
    from edgeft.files import read_json, write_json, write_text
    from edgeft.models.identity import TRAINING
    from edgeft.training.board import FOLDER
    from edgeft.training.card import README, card
    from edgeft.training.run import SPEED, train

    job = job_of(params, inputs, work)
    result = train(job)
    record = work.folder / TRAINING
    training = {**read_json(record), **told(inputs["data"].path)}
    write_json(record, training)
    write_text(work.folder / README, card(job.base, job.base_ref, training, adapter=params.adapter != "full"))
    logs = sorted(
        path.relative_to(work.folder).as_posix() for path in (work.folder / FOLDER).rglob("*") if path.is_file()
    )
    kind = "model" if params.adapter == "full" else "adapter"
    return Outcome(kind, facts=result.facts, measurements=result.measurements, volatile=(SPEED, *logs))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
