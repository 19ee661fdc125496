"""The `imatrix` stage: what each input column of the weights matters to the tuned model, on its training rows.

An export with `imatrix: true` quantizes by it. The rows are those of the training split as they were trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras
from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages.export import IMATRIX

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
ROWS = "train.parquet"
TOKENS = 25_000


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    tokens: int = Field(TOKENS, ge=1, description="tokens at most; rows are then taken spread evenly")


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Write imatrix.gguf, in the form of llama.cpp's imatrix tool.

    inputs    data, adapter (without it, the base is measured)
    sources   base
    """
    extras.require("train")
    extras.require("gguf")
    from edgeft.data.store import read_tokens
    from edgeft.exporters.gguf.imatrix import write_imatrix
    from edgeft.exporters.gguf.importance import compute

    rows = spread(read_tokens(inputs["data"].file(ROWS)).ids, params.tokens)
    adapter = inputs.get("adapter")
    base, tuned = inputs.sources["base"], adapter.path if adapter else None
    found, unseen = compute(base, tuned, rows, dataset=ROWS, listen=work.listen)
    write_imatrix(work.folder / IMATRIX, found)
    if unseen:
        more = f" and {len(unseen) - 1} more" if len(unseen) > 1 else ""
        work.warn(f"no activations were seen of {unseen[0]}{more}: quantized as without an importance matrix")
    facts = {"rows": len(rows), "tokens": sum(map(len, rows)), "weights": len(found.entries), "unseen": unseen}
    return Outcome("imatrix", facts=facts)


def spread(rows: Sequence[Any], tokens: int) -> list[Any]:
    """Rows from all over, at most `tokens` long together (one at least)."""
    total = sum(map(len, rows))
    if total <= tokens:
        return list(rows)
    count = max(1, len(rows) * tokens // total)
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    while len(chosen) > 1 and sum(map(len, chosen)) > tokens:
        chosen.pop()
    return chosen
