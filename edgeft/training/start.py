"""How an adapter's matrices start when not at random: LoftQ from the error of quantization, EVA from the activations of
training rows, PiSSA and OLoRA (peft's own). Used by `edgeft.training.adapter`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeft.extras import imported

# Starts that take the adapter's first product out of the base's weights: what is written is the change from there.
MOVING = ("pissa", "olora")
_EVA_BATCHES = 32


def peft_name(init: str) -> Any:
    """peft's `init_lora_weights`; LoftQ is ours (peft's would change the base's weights as well)."""
    return True if init in ("default", "loftq") else init


def loftq(model: Any, base: Path) -> None:
    """One step of LoftQ (Li et al. 2023, arXiv:2310.08659) on a base that stays as it is quantized: the best product of
    rank r, by singular values, for what quantization took from each weight."""
    import torch
    from safetensors import safe_open

    places = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            places |= dict.fromkeys(opened.keys(), path)
    for name, module in model.get_base_model().named_modules():
        if "default" not in getattr(module, "lora_A", {}):
            continue
        key = f"{name}.weight"
        if key not in places:
            continue
        with safe_open(places[key], framework="pt") as opened:
            exact = opened.get_tensor(key).float()
        error = exact - _held(module.get_base_layer()).float().cpu()
        left, values, right = torch.linalg.svd(error, full_matrices=False)
        rank = module.r["default"]
        root = (values[:rank] / module.scaling["default"]).sqrt()
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        a.data.copy_(root[:, None] * right[:rank])
        b.data.copy_(left[:, :rank] * root)


def _held(layer: Any) -> Any:
    """A layer's weight as it computes with it, (out, in)."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return layer.weight.data
    return imported("bitsandbytes").functional.dequantize_4bit(layer.weight.data, state)


def eva(model: Any, batches: Iterable[Mapping[str, Any]]) -> None:
    """EVA (Paischer et al. 2024, arXiv:2410.07170) by peft, on the first batches of the run; ranks move between layers
    as peft's default has it."""
    from itertools import islice

    from peft import initialize_lora_eva_weights

    def inputs(batch: Mapping[str, Any]) -> Mapping[str, Any]:
        found = {"input_ids": batch["input_ids"].to(model.device)}
        mask = batch.get("attention_mask")
        if mask is None:  # rows are padded behind what they teach
            targets = batch.get("every_target", batch.get("targets"))
            reached = (targets != -100).flip(1).cumsum(1).flip(1) > 0
            mask = reached.long()
        return found | {"attention_mask": mask.to(model.device)}

    initialize_lora_eva_weights(
        model, [inputs(batch) for batch in islice(batches, _EVA_BATCHES)], show_progress_bar=False
    )
