"""The `train` stage: a dataset and a base model in, the `adapter` artifact out. It only joins; see
`edgeft.training.run`."""

from __future__ import annotations

from pydantic import Field

from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.schema import TrainSection

VERSION = 2


class Params(TrainSection):
    """The recipe's `train:` section, its seed, and how it names the base model (that name goes into the adapter)."""

    seed: int = Field(0, description="of the initial adapter weights, dropout and the order of rows")
    base_model: str = Field("", description="as the recipe writes it; empty: found out from where the base lies")


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Train the adapter. inputs data (a dataset); sources base (model)."""
    from edgeft.data.told import told
    from edgeft.files import read_json, write_json
    from edgeft.models.base import reference_of
    from edgeft.models.identity import TRAINING
    from edgeft.training.arguments import Settings
    from edgeft.training.run import CURVE, SPEED, Job, train

    base = inputs.sources["base"]
    fields = {name: getattr(params, name) for name in type(params).model_fields if name != "base_model"}
    job = Job(
        base=base,
        base_ref=params.base_model or reference_of(base),
        dataset=inputs["data"].path,
        folder=work.folder,
        scratch=work.scratch,
        settings=Settings(**fields),
        listen=work.listen,
    )
    result = train(job)
    record = work.folder / TRAINING
    write_json(record, {**read_json(record), **told(inputs["data"].path)})
    assert (work.folder / CURVE).is_file()
    return Outcome("adapter", facts=result.facts, measurements=result.measurements, volatile=(SPEED,))
