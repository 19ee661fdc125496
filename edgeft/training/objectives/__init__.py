"""What is minimised: one file per objective with `bind(context) -> Bound`. Called by `edgeft.training.run`.

The loop, resume and checkpoints are the same for all (`edgeft.training.trainer`, transformers' `Trainer`); the losses
are tested equal to those of TRL's trainers. The first model, which dpo and kto stay near, is never held: its
likelihoods are taken once, before the first step, by the very model that is then trained (see `reference`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.registry import Row
from edgeft.training.arguments import Settings
from edgeft.training.forms import Rows

if TYPE_CHECKING:
    import torch

_PLACE = "edgeft.training.objectives"
OBJECTIVES: dict[str, Row] = {
    "sft": Row(f"{_PLACE}.sft", "the likelihood of the trained turns", extra="train"),
    "cpt": Row(f"{_PLACE}.sft", "the likelihood of whole texts", extra="train"),
    "dpo": Row(f"{_PLACE}.dpo", "better answers over worse ones, near the first model", extra="train"),
    "kto": Row(f"{_PLACE}.kto", "good answers over bad ones, near the first model", extra="train"),
    "orpo": Row(f"{_PLACE}.orpo", "better answers and their odds over worse ones, in one go", extra="train"),
    "reward": Row(f"{_PLACE}.reward", "a head whose value is higher for better answers", extra="train"),
    "grpo": Row(f"{_PLACE}.grpo", "the model's own answers by their rewards", extra="train"),
    "classification": Row(f"{_PLACE}.classification", "a head that names the label", extra="train"),
    "distill": Row(f"{_PLACE}.distill", "a larger model's distribution over the next token", extra="train"),
}
ROWS: dict[str, str] = {  # objective -> the form of rows it learns from (`edgeft.training.forms`)
    "sft": "language",
    "cpt": "language",
    "distill": "language",
    "dpo": "preference",
    "orpo": "preference",
    "reward": "preference",
    "kto": "unpaired_preference",
    "grpo": "prompts",
    "classification": "classification",
}


@dataclass(frozen=True)
class Context:
    """What an objective may need besides the model and a batch."""

    settings: Settings
    model: Any  # with its adapter, as it is before the first step
    train: Rows
    validation: Rows | None
    base: Path
    stop_ids: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    chat_template: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)  # "teacher", "rewards.N"
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class Bound:
    """An objective ready for a run.

    loss_sum  (model, batch) -> float32 scalar: the loss summed over the items of a batch
    items     batch -> how many they are (a float32 or int64 scalar): what the sums of a step are divided by
    judge     (model, batch) -> figures of each row of a held-out batch, in its order
    held_out  instead of loss_sum on validation rows: the same shape
    figures   what loss_sum has to tell beside the loss since it was last emptied: name -> values
    """

    loss_sum: Callable[[Any, Mapping[str, Any]], torch.Tensor]
    items: Callable[[Mapping[str, Any]], torch.Tensor]
    judge: Callable[[Any, Mapping[str, Any]], dict[str, list[float]]] | None = None
    held_out: Callable[[Any, Mapping[str, Any]], torch.Tensor] | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)
