"""The README beside what was trained: what hubs show. Used by `edgeft.training.written`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OPENING = """
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), ADAPTER)
```
"""


def card(base_ref: str, training: Mapping[str, Any], *, adapter: bool) -> str:
    """What it was made from and how to open it."""
    figures, quantization = training["data"], training["quantization"]
    held = f"in {training['compute_dtype']}"
    if quantization:
        double = ", double quantization" if quantization["double_quant"] else ""
        held = f"in 4 bits ({quantization['quant_type'].upper()}{double})"
    library = "peft" if adapter else "transformers"
    pipeline = "text-classification" if training.get("labels") else "text-generation"
    opening = _OPENING
    if training.get("labels"):  # a head of another size than the adapter's would not fit
        opening = opening.replace("(BASE)", f"(BASE, num_labels={len(training['labels'])})")
        opening = opening.replace("ForCausalLM", "ForSequenceClassification")
    return f"""---
base_model: {base_ref}
library_name: {library}
pipeline_tag: {pipeline}
tags:
{"- lora" if adapter else "- full"}
- edgeft
---

# {"LoRA adapter of" if adapter else "Fine-tuned"} {base_ref}

Trained with edgeft ({training["objective"]}) on {figures["rows"]} rows\
{f" ({figures['trained_tokens']} trained tokens an epoch)" if figures.get("trained_tokens") else ""}, \
{training["steps"]} steps, the base {held}. `training.json` holds all settings, `curve.jsonl` the losses.
{opening if adapter else ""}"""
