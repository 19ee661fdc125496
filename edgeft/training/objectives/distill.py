"""Distillation of a larger model: the divergence of the distributions over each trained token, forward or reverse, as
the ends of TRL's generalised Jensen-Shannon loss (Agarwal et al. 2023, arXiv:2306.13649)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.models.open import open_base
from edgeft.models.tokenizer import load_tokenizer
from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.likelihood import logits_at
from edgeft.training.objectives.sft import items

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    settings, folder = context.settings, context.files["teacher"]
    _same_tokens(context.base, folder)
    teacher = open_base(folder, device=context.device, dtype=context.dtype)

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        wanted = batch["targets"] != -100
        student = logits_at(model, batch, wanted)
        with torch.no_grad():
            told = logits_at(teacher, batch, wanted)
        width = min(student.shape[-1], told.shape[-1])  # rows of padding behind the vocabulary
        found = divergence(
            student[:, :width], told[:, :width], settings.distill_temperature, reverse=settings.distill_kl == "reverse"
        )
        if not settings.distill_alpha:
            return found
        own = cross_entropy(student, batch["targets"][wanted], reduction="sum")
        return (1 - settings.distill_alpha) * found + settings.distill_alpha * own

    return Bound(loss_sum, items)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float, *, reverse: bool) -> torch.Tensor:
    """KL(teacher || student) in nats, or with `reverse` KL(student || teacher), summed over logits float32[N, V]."""
    from torch.nn.functional import kl_div, log_softmax

    ours, theirs = log_softmax(student / temperature, dim=-1), log_softmax(teacher / temperature, dim=-1)
    pair = (theirs, ours) if reverse else (ours, theirs)
    return kl_div(*pair, reduction="sum", log_target=True)


def _same_tokens(base: Path, teacher: Path) -> None:
    if load_tokenizer(base).get_vocab() != load_tokenizer(teacher).get_vocab():
        raise ModelError(
            "the teacher has another vocabulary: its words on the next token mean nothing to the base model",
            where=teacher,
            do="choose a teacher of the same family",
        )
