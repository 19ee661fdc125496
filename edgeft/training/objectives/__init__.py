"""What is minimised. An objective is one file with `prepare(model)` and `loss_sum(model, batch)`; see `sft`.

Called by `edgeft.training.trainer`.
"""

from __future__ import annotations

from edgeft.registry import Row

OBJECTIVES: dict[str, Row] = {
    "sft": Row("edgeft.training.objectives.sft", "the likelihood of the trained turns", extra="train"),
}
