"""Log-likelihoods of targets, nothing computed for the other positions that is not needed. Used by the objectives.

Small logits (most runs on small models) are computed for the positions with a target only, through the model's own
`logits_to_keep`; large ones by TRL's fused head, which goes over the vocabulary in tiles and never holds them whole.
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


def kept_positions(targets: torch.Tensor) -> torch.Tensor:
    """int64[K]: positions in which some line of targets int64[B, T] has one."""
    return (targets != -100).any(dim=0).nonzero().squeeze(1)


def logits_at(model: Any, batch: Mapping[str, torch.Tensor], kept: torch.Tensor) -> torch.Tensor:
    """Logits float32[B, K, vocabulary] at the positions `kept`."""
    found: torch.Tensor = model(**inputs_of(batch), use_cache=False, logits_to_keep=kept).logits.float()
    return found


def token_logps(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    targets: torch.Tensor,
    *,
    temperature: float = 1.0,
    most_logits: int = MOST_LOGITS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-likelihoods float32[B, K] of the targets in nats, 0 where there is none; the kept targets int64[B, K])."""
    from torch.nn.functional import cross_entropy

    kept = kept_positions(targets)
    vocabulary = model.config.get_text_config().vocab_size
    if temperature == 1.0 and targets.shape[0] * kept.numel() * vocabulary > most_logits:
        output = model(**inputs_of(batch), shift_labels=targets, fused_lm_head=True)
        return output.log_probs[:, kept].float(), targets[:, kept]
    logits = logits_at(model, batch, kept) / temperature
    wanted = targets[:, kept]
    loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=-100)
    return -loss.view_as(wanted), wanted


def answer_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """float32[B]: log-likelihood in nats of each line's answer (`targets`)."""
    return token_logps(model, batch, batch["targets"])[0].sum(dim=1)
