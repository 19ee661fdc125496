"""Whether a model keeps the rows of one sequence apart: measured on the opened model, not assumed. Called by
`edgeft.training.run` before it packs.

transformers' attention masks follow from position ids that restart; models with other paths (recurrent states, masks of
their own, no position ids at all) may let rows see each other. Where they do, rows are not packed.
"""

from __future__ import annotations

from typing import Any

_LENGTHS = (7, 9, 5)  # tokens of the rows that are tried
_LEAK = 0.02  # of the largest logit: rounding stays far below it, rows that see each other far above


def packs_exactly(model: Any) -> bool:
    """Whether three rows in one sequence have the logits that each has alone. The model is left as it was."""
    import torch

    device, was_training = model.get_input_embeddings().weight.device, model.training
    highest = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(highest, (1, length), generator=generator).to(device) for length in _LENGTHS]
    positions = torch.cat([torch.arange(length) for length in _LENGTHS])[None].to(device)
    model.eval()
    try:
        with torch.no_grad():
            alone = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], 1).float()
            packed = model(input_ids=torch.cat(rows, 1), position_ids=positions, use_cache=False).logits.float()
    except TypeError:  # it takes no position ids
        return False
    finally:
        model.train(was_training)
    return bool((alone - packed).abs().max() <= _LEAK * alone.abs().max())
