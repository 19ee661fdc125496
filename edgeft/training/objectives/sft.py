"""Supervised fine-tuning: cross entropy of the trained tokens, nothing computed for the others that is not needed.

Small logits (most runs on small models) are computed for the positions with a target only, through the model's own
`logits_to_keep`; large ones by TRL's fused head, which goes over the vocabulary in tiles and never holds them whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MOST_LOGITS = 1 << 26  # floats of logits held at once (256 MB, and as much again for their gradient)


def prepare(model: Any) -> None:
    """Give a transformers causal language model the fused head. To be called before peft wraps it."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, outputs=("log_probs",))


def loss_sum(model: Any, batch: Mapping[str, torch.Tensor], *, most_logits: int = _MOST_LOGITS) -> torch.Tensor:
    """Negative log-likelihood in nats, summed over the targets that are not -100: a float32 scalar.

    batch   input_ids int64[B, T], targets int64[B, T] (the token after each position, or -100), and position_ids
            int64[B, T] when several rows share a sequence
    """
    from torch.nn.functional import cross_entropy

    inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
    targets = batch["targets"]
    kept = (targets != -100).any(dim=0).nonzero().squeeze(1)
    vocabulary = model.config.get_text_config().vocab_size
    if targets.shape[0] * kept.numel() * vocabulary > most_logits:
        output = model(**inputs, shift_labels=targets, fused_lm_head=True)
        return -output.log_probs.float().sum()
    logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits
    return cross_entropy(logits.flatten(0, 1).float(), targets[:, kept].flatten(), reduction="sum", ignore_index=-100)
