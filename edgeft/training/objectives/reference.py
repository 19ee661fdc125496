"""What the first model says of the rows, taken once before the first step: dpo and kto stay near it.

It is the very model that is trained then: with a new adapter that is the base, with one carried on from an earlier
phase that phase's result. So no second copy is held, and no step runs it again. Deterministic: a resumed run finds the
same numbers.
"""

from __future__ import annotations

from typing import Any

from edgeft.training.batches import Batches, evaluation_batches


def take(model: Any, rows: Any, *, tokens: int, device: str) -> None:
    """Fill `rows.reference`, float32[rows, 2], of `Pairs` or `Unpaired` rows; batches of up to `tokens` tokens."""
    import numpy as np
    import torch

    from edgeft.training.objectives.likelihood import answer_logps

    batches = evaluation_batches(rows.lengths, tokens)
    found = np.zeros((len(rows.lengths), 2), np.float32)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for index, batch in enumerate(batches):
            (part,) = Batches(rows, batches)[index]
            values = answer_logps(model, {name: tensor.to(device) for name, tensor in part.items()})
            found[[i for (i,) in batch]] = values.view(2, -1).T.cpu().numpy()
    model.train(was_training)
    rows.reference = found


def take_all(context: Any) -> None:
    """For both splits."""
    for rows in (context.train, context.validation):
        if rows is not None:
            budget = 2 * context.settings.micro_batch_size * max(rows.lengths)
            take(context.model, rows, tokens=budget, device=context.device)
