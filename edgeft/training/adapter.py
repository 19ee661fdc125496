"""The adapter: made on an open base, and written as peft reads it, the same bytes for the same values.

peft's own `save_pretrained` writes module lists in the order of a set, which differs from process to process, and a
card with nothing in it. Used by `edgeft.training.run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import EdgeftError, ModelError
from edgeft.models.adapters import CONFIG, WEIGHTS
from edgeft.models.identity import TRAINING
from edgeft.models.tokenizer import first_line


def add_lora(model: Any, *, r: int, alpha: float, dropout: float, targets: str | list[str]) -> Any:
    """`model` with a fresh LoRA adapter (a `PeftModel`, adapter weights in float32, drawn from torch's generator)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=r,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if isinstance(targets, str):
            raise
        names = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "weight")})
        raise ModelError(
            f"lora_target_modules do not fit the base model ({first_line(error)})", do=f"it has: {', '.join(names)}"
        ) from None


def write_adapter(folder: Path, model: Any, *, base_ref: str, training: Mapping[str, Any]) -> None:
    """adapter_model.safetensors, adapter_config.json, training.json and a card. An `EdgeftError` when the values are
    not finite."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = {}
    for name, tensor in sorted(get_peft_model_state_dict(model).items()):
        if not bool(torch.isfinite(tensor).all()):
            raise EdgeftError(
                f"the training diverged: {name!r} holds NaN or infinite values", do="lower learning_rate and run again"
            )
        tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    files.write_json(folder / CONFIG, _config(model, base_ref))
    files.write_json(folder / TRAINING, training)
    files.write_text(folder / "README.md", _card(base_ref, training))


def _config(model: Any, base_ref: str) -> dict[str, Any]:
    """peft's own table, in a fixed order."""
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base_ref, "inference_mode": True}
    return {key: _plain(config[key]) for key in sorted(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(getattr(value, "value", value))


def _card(base_ref: str, training: Mapping[str, Any]) -> str:
    """The README that hubs show: what it was made from and how to open it."""
    figures, quantization = training["data"], training["quantization"]
    held = "in 4 bits (NF4, double quantization)" if quantization else f"in {training['compute_dtype']}"
    return f"""---
base_model: {base_ref}
library_name: peft
pipeline_tag: text-generation
tags:
- lora
- edgeft
---

# LoRA adapter of {base_ref}

Trained with edgeft on {figures["rows"]} rows ({figures["trained_tokens"]} trained tokens an epoch), \
{training["steps"]} steps, the base {held}. `training.json` holds all settings, `curve.jsonl` the losses.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), ADAPTER)
```
"""
