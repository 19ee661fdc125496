"""The `merge` stage: base and adapter to one checkpoint, tensor by tensor."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras
from edgeft.artifact import Artifact, Outcome
from edgeft.files import read_json
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.names import MergeBase
from edgeft.stages.export import options_of, refuse_head, source_of

VERSION = 2
COMBINED, _RECORD = "combined", "combined.json"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    merge_base: MergeBase = Field("dequantized", description="what the adapter is folded into")
    threads: int | None = Field(
        None,
        ge=1,
        description="how many compute; default: all cores",
        json_schema_extra={"fingerprint": False},
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("train")
    from edgeft.exporters import hf

    source = source_of(inputs, params.merge_base)
    refuse_head(source, "a merged checkpoint")
    done = hf.export(source, work.folder, options_of(params.threads), work.listen)
    return Outcome("model", facts={**done.facts, **_combined(inputs["adapter"])}, measurements=done.measurements)


def _combined(adapter: Artifact) -> dict[str, Any]:
    """What a combined or scaled adapter was made of."""
    return {COMBINED: read_json(adapter.path / _RECORD)} if (adapter.path / _RECORD).is_file() else {}
