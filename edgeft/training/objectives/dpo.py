"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) and the losses that came of it, as TRL's
`DPOTrainer` has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.likelihood import answer_logps
from edgeft.training.objectives.reference import take_all

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Compared:
    """float32[B] each: log-likelihoods of an answer under the trained model over those under the first one, the
    answers' tokens, and the plain log-likelihoods' differences (chosen - rejected) under both."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    margin: torch.Tensor
    first_margin: torch.Tensor


def bind(context: Context) -> Bound:
    take_all(context)
    settings = context.settings
    beta = 0.1 if settings.beta is None else settings.beta
    figures: dict[str, list[float]] = {"reward_margin": [], "reward_accuracy": []}

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        compared = compare(model, batch)
        margins = beta * (compared.chosen - compared.rejected).detach()
        figures["reward_margin"] += margins.tolist()
        figures["reward_accuracy"] += (margins > 0).float().tolist()
        return losses(settings.dpo_loss, compared, beta, settings.label_smoothing).sum()

    return Bound(loss_sum, pairs, judge, figures=figures)


def pairs(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.tensor(batch["targets"].shape[0] // 2)


def judge(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Whether the model finds the better answer likelier, by token."""
    counts = (batch["targets"] != -100).sum(dim=1)
    chosen, rejected = (answer_logps(model, batch) / counts).chunk(2)
    return {"accuracy": (chosen > rejected).float().tolist()}


def compare(model: Any, batch: Mapping[str, torch.Tensor]) -> Compared:
    now, first = answer_logps(model, batch), batch["reference"]
    chosen, rejected = (now - first).chunk(2)
    counts = (batch["targets"] != -100).sum(dim=1).chunk(2)
    return Compared(chosen, rejected, *counts, *(chunks[0] - chunks[1] for chunks in (now.chunk(2), first.chunk(2))))


def losses(name: str, it: Compared, beta: float, smoothing: float) -> torch.Tensor:
    """The loss of each pair, float32[B]."""
    return _LOSSES[name](it, beta, smoothing)


def _log_sigmoid(values: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import logsigmoid

    return logsigmoid(values)


def _smoothed(values: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Conservative DPO (Mitchell 2023): preferences are wrong in this share of the rows."""
    return -_log_sigmoid(values) * (1 - smoothing) - _log_sigmoid(-values) * smoothing


def _by_token(it: Compared) -> torch.Tensor:
    return it.chosen / it.chosen_tokens - it.rejected / it.rejected_tokens


def _exo_pair(it: Compared, beta: float, smoothing: float) -> torch.Tensor:
    """arXiv:2402.00856, equation 16."""
    import math

    z = beta * (it.chosen - it.rejected)
    kept, wrong = math.log1p(-smoothing), math.log(smoothing)
    return z.sigmoid() * (_log_sigmoid(z) - kept) + (-z).sigmoid() * (_log_sigmoid(-z) - wrong)


def _discopop(it: Compared, beta: float, _: float) -> torch.Tensor:
    """arXiv:2406.08414, equation 5, with its temperature of 0.05."""
    z = beta * (it.chosen - it.rejected)
    mix = (z / 0.05).sigmoid()
    return -_log_sigmoid(z) * (1 - mix) + (-z).exp() * mix


def _sorted(values: torch.Tensor) -> torch.Tensor:
    return values.sort(dim=0).values


_LOSSES: dict[str, Callable[[Compared, float, float], Any]] = {
    "sigmoid": lambda it, beta, e: _smoothed(beta * (it.chosen - it.rejected), e),
    "sigmoid_norm": lambda it, beta, _: -_log_sigmoid(beta * _by_token(it)),
    "hinge": lambda it, beta, _: (1 - beta * (it.chosen - it.rejected)).relu(),
    "ipo": lambda it, beta, _: (_by_token(it) - 1 / (2 * beta)) ** 2,  # arXiv:2310.12036, equation 17
    "exo_pair": _exo_pair,
    "nca_pair": lambda it, beta, _: (  # arXiv:2402.05369
        -_log_sigmoid(beta * it.chosen)
        - 0.5 * _log_sigmoid(-beta * it.chosen)
        - 0.5 * _log_sigmoid(-beta * it.rejected)
    ),
    "robust": lambda it, beta, e: (  # arXiv:2403.00409
        (-(1 - e) * _log_sigmoid(beta * (it.chosen - it.rejected)) + e * _log_sigmoid(beta * (it.rejected - it.chosen)))
        / (1 - 2 * e)
    ),
    "bco_pair": lambda it, beta, _: -_log_sigmoid(beta * it.chosen) - _log_sigmoid(-beta * it.rejected),
    "sppo_hard": lambda it, beta, _: (it.chosen - 0.5 / beta) ** 2 + (it.rejected + 0.5 / beta) ** 2,
    "aot": lambda it, beta, e: _smoothed(beta * (_sorted(it.margin) - _sorted(it.first_margin)), e),
    "aot_unpaired": lambda it, beta, e: _smoothed(beta * (_sorted(it.chosen) - _sorted(it.rejected)), e),
    "apo_zero": lambda it, beta, _: 1 - (beta * it.chosen).sigmoid() + (beta * it.rejected).sigmoid(),
    "apo_down": lambda it, beta, _: (beta * it.chosen).sigmoid() + 1 - (beta * (it.chosen - it.rejected)).sigmoid(),
    "discopop": _discopop,
}
NAMES = tuple(_LOSSES)
