"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306, equation 7), as TRL's `KTOTrainer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.likelihood import answer_logps
from edgeft.training.objectives.reference import take_all

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    take_all(context)
    settings = context.settings
    beta = 0.1 if settings.beta is None else settings.beta
    weights = settings.desirable_weight, settings.undesirable_weight
    figures: dict[str, list[float]] = {"divergence": []}

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        loss, divergence = losses(model, batch, beta, weights)
        figures["divergence"].append(divergence)
        return loss.sum()

    return Bound(loss_sum, rows, judge, figures=figures)


def rows(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.tensor(batch["good"].numel())


def judge(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Whether an answer has become likelier than it was under the first model if it is good, else less likely; half
    where nothing has changed."""
    (change, _), good = _changes(model, batch), batch["good"]
    right = (change > 0) == good
    return {"accuracy": [0.5 if value == 0 else float(ok) for value, ok in zip(change.tolist(), right, strict=True)]}


def losses(
    model: Any, batch: Mapping[str, torch.Tensor], beta: float, weights: tuple[float, float]
) -> tuple[torch.Tensor, float]:
    """(loss of each row float32[B], the divergence from the first model, estimated on the mismatched answers)."""
    import torch

    change, mismatched = _changes(model, batch)
    divergence = mismatched.mean().clamp(min=0)
    good = batch["good"]
    value = torch.where(good, change - divergence, divergence - change)
    weight = torch.where(good, weights[0], weights[1])
    return weight * (1 - (beta * value).sigmoid()), float(divergence)


def _changes(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-likelihood of the answers and (without gradient) of the mismatched ones, over those under the first model."""
    import torch

    count = batch["good"].numel()
    parts = [
        {name: batch[name][side] for name in ("input_ids", "targets")} for side in (slice(count), slice(count, None))
    ]
    now = answer_logps(model, parts[0])
    with torch.no_grad():
        mismatched = answer_logps(model, parts[1])
    return now - batch["reference"][:count], mismatched - batch["reference"][count:]
