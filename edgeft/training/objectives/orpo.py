"""Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691), as TRL's `ORPOTrainer`: the likelihood of
the better conversation, and the odds of its answer over those of the worse one. It needs no first model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.dpo import judge, pairs
from edgeft.training.objectives.likelihood import token_logps

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    beta = 0.1 if context.settings.beta is None else context.settings.beta

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return loss(model, batch, beta) * pairs(batch)

    return Bound(loss_sum, pairs, judge)


def loss(model: Any, batch: Mapping[str, torch.Tensor], beta: float) -> torch.Tensor:
    """Mean loss of a batch: nats per token of prompt and chosen answer, minus beta times the mean log-sigmoid of the
    log odds ratio of the answers' mean likelihoods."""
    from torch.nn.functional import logsigmoid

    every, answer = batch["every_target"], batch["targets"] != -100
    logps = token_logps(model, batch, every)
    chosen, rejected = ((logps * answer).sum(dim=1) / answer.sum(dim=1)).chunk(2)
    likelihood = logps.chunk(2)[0][every.chunk(2)[0] != -100].mean()
    odds = (chosen - rejected) - (_log1m_exp(chosen) - _log1m_exp(rejected))
    return -likelihood - beta * logsigmoid(odds).mean()


def _log1m_exp(values: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0, by the better of two forms on either side of -log 2."""
    import math

    import torch

    near = torch.log(-torch.expm1(values))
    far = torch.log1p(-torch.exp(values))
    return torch.where(values > -math.log(2), near, far)
