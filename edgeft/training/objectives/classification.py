"""A classification head on the model: cross entropy of the label, as transformers' sequence classification.

Class weights divide as scikit-learn's "balanced": n / (classes * count of the class); sums are divided by the weights'
sum, as torch's weighted cross entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import InputError
from edgeft.training.objectives import Bound, Context

if TYPE_CHECKING:
    import torch


def bind(context: Context) -> Bound:
    import torch

    weights = torch.tensor(class_weights(context), dtype=torch.float32, device=context.device)

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits = pooled_logits(model, batch["input_ids"], batch["attention_mask"])
        return cross_entropy(logits, batch["labels"], weight=weights, reduction="sum")

    def items(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return weights[batch["labels"].to(weights.device)].sum()

    return Bound(loss_sum, items, judge)


def class_weights(context: Context) -> list[float]:
    """The weight of each label, in the order of labels.json."""
    asked, labels = context.settings.class_weights, context.labels
    if asked is None:
        return [1.0] * len(labels)
    if isinstance(asked, Mapping):
        unknown = sorted(set(asked) - set(labels))
        if unknown:
            raise InputError(f"class_weights names no label of the rows: {unknown[0]!r}", do=f"it has {list(labels)}")
        return [float(asked.get(label, 1.0)) for label in labels]
    counts = [context.train.labels.count(i) for i in range(len(labels))]  # type: ignore[attr-defined]
    return [len(context.train.names) / (len(labels) * count) if count else 1.0 for count in counts]


def judge(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    logits = pooled_logits(model, batch["input_ids"], batch["attention_mask"])
    guessed = logits.argmax(dim=-1)
    return {
        "accuracy": (guessed == batch["labels"]).float().tolist(),
        "label": batch["labels"].tolist(),
        "guessed": guessed.tolist(),
    }


def pooled_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """float32[B, labels]: the head's values of each line."""
    found: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits.float()
    return found
