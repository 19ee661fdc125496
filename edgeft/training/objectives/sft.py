"""Supervised fine-tuning and continued pre-training: cross entropy of the trained tokens. What is trained is decided by
the rows' labels: the trained turns, or (cpt) every token of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.likelihood import MOST_LOGITS, are_many, inputs_of, logits_at

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    return Bound(loss_sum, items)


def items(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Trained tokens."""
    return (batch["targets"] != -100).sum()


def loss_sum(model: Any, batch: Mapping[str, torch.Tensor], *, most_logits: int = MOST_LOGITS) -> torch.Tensor:
    """Negative log-likelihood in nats, summed over the targets that are not -100: a float32 scalar.

    batch   input_ids int64[B, T], targets int64[B, T] (the token after each position, or -100), and position_ids
            int64[B, T] when several rows share a sequence
    """
    from torch.nn.functional import cross_entropy

    targets = batch["targets"]
    wanted = targets != -100
    if are_many(model, wanted, most_logits):
        return -model(**inputs_of(batch), shift_labels=targets, fused_lm_head=True).log_probs.float().sum()
    return cross_entropy(logits_at(model, batch, wanted), targets[wanted], reduction="sum")
