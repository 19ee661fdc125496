"""Log-likelihoods of targets, nothing computed for the other positions that is not needed. Used by the objectives.

Small logits (most runs on small models) are computed at the positions with a target only: the head is handed no others.
Large ones are computed by TRL's fused head, which goes over the vocabulary in tiles and never holds them whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOST_LOGITS = 1 << 26  # floats of logits held at once (256 MB, and as much again for their gradient)
_INPUTS = ("input_ids", "position_ids")


def prepare(model: Any) -> None:
    """Give a transformers causal language model the fused head. To be called before peft wraps it."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, outputs=("log_probs",))


def inputs_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in _INPUTS if name in batch}


def logits_at(model: Any, batch: Mapping[str, torch.Tensor], wanted: torch.Tensor) -> torch.Tensor:
    """Logits float32[N, vocabulary] of the N positions that are true in `wanted` bool[B, T], line by line.

    The model's own forward computes them, with its scales and caps; its head is only given the wanted positions."""
    head = model.get_output_embeddings()

    def only_wanted(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = given[0]
        return (hidden[wanted][None], *given[1:]) if hidden.shape[:2] == wanted.shape else given

    hook = head.register_forward_pre_hook(only_wanted)
    try:
        found: torch.Tensor = model(**inputs_of(batch), use_cache=False).logits
    finally:
        hook.remove()
    if found.shape[:2] == wanted.shape:  # a head of another form, which went around the hook (or one line, all wanted)
        return found[wanted].float()
    return found[0].float()


def token_logps(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    targets: torch.Tensor,
    *,
    temperature: float = 1.0,
    most_logits: int = MOST_LOGITS,
) -> torch.Tensor:
    """float32[B, T]: log-likelihoods in nats of the targets int64[B, T], 0 where there is none (-100)."""
    from torch.nn.functional import cross_entropy

    wanted = targets != -100
    if temperature == 1.0 and are_many(model, wanted, most_logits):
        found: torch.Tensor = model(**inputs_of(batch), shift_labels=targets, fused_lm_head=True).log_probs.float()
        return found
    logits = logits_at(model, batch, wanted) / temperature
    each = -cross_entropy(logits, targets[wanted], reduction="none")
    return each.new_zeros(wanted.shape).masked_scatter(wanted, each)


def are_many(model: Any, wanted: torch.Tensor, most: int = MOST_LOGITS) -> bool:
    """Whether the logits of so many positions are better never held whole."""
    return int(wanted.sum()) * int(model.config.get_text_config().vocab_size) > most


def answer_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """float32[B]: log-likelihood in nats of each line's answer (`targets`)."""
    return token_logps(model, batch, batch["targets"]).sum(dim=1)
