"""A reward model: a head with one value, higher for the better of two answers (Bradley-Terry), as TRL's
`RewardTrainer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.dpo import pairs

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    figures: dict[str, list[float]] = {"reward_margin": []}

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import logsigmoid

        chosen, rejected = rewards(model, batch)
        figures["reward_margin"] += (chosen - rejected).detach().tolist()
        return -logsigmoid(chosen - rejected).sum()

    return Bound(loss_sum, pairs, judge, figures=figures)


def judge(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Whether the better answer has the higher reward."""
    chosen, rejected = rewards(model, batch)
    return {"accuracy": (chosen > rejected).float().tolist()}


def rewards(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """float32[B] of the chosen and of the rejected answers, whole: their last token is part of what is read."""
    import torch

    from edgeft.training.objectives.classification import pooled_logits

    last = (batch["every_target"] != -100).sum(dim=1)
    pad = model.config.get_text_config().pad_token_id  # transformers finds the last token of a line by it
    ids = torch.cat([batch["input_ids"], torch.full_like(batch["input_ids"][:, :1], pad)], dim=1)
    lines = torch.arange(len(ids), device=ids.device)
    ids[lines, last] = batch["every_target"][lines, last - 1]
    mask = torch.arange(ids.shape[1], device=ids.device)[None] <= last[:, None]
    values = pooled_logits(model, ids, mask.long()).squeeze(-1)
    chosen, rejected = values.chunk(2)
    return chosen, rejected
