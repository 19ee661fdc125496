"""The README beside what was trained: what hubs show. Used by `edgeft.training.written`, and by
the `train` stage, which knows the datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.models import grown
from edgeft.models.origin import dataset_names, front_matter, origin_of, plain

README = "README.md"
_OPENING = """
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), ADAPTER)
```
"""
_GROWN = """
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(ADAPTER)
base.resize_token_embeddings(max(len(tokenizer), base.config.vocab_size), mean_resizing=False)
model = PeftModel.from_pretrained(base, ADAPTER)
```

Its base was given the tokens TOKENS; the tokenizer here has them, the adapter their rows.
"""


def card(base: Path, base_ref: str, training: Mapping[str, Any], *, adapter: bool) -> str:
    """What it was made from and how to open it, in Hugging Face's form: base, licence and datasets as the cards of
    exported folders have them, nothing about this machine."""
    origin = origin_of(base, base_ref)
    named = plain(origin.reference or "a local base model")
    figures, quantization = training["data"], training["quantization"]
    held = f"in {training['compute_dtype']}"
    if quantization:
        double = ", double quantization" if quantization["double_quant"] else ""
        held = f"in 4 bits ({quantization['quant_type'].upper()}{double})"
    tokens = grown.split(base_ref)[1]
    opening = _GROWN.replace("TOKENS", ", ".join(f"`{token}`" for token in tokens)) if tokens else _OPENING
    if training.get("labels"):  # a head of another size than the adapter's would not fit
        opening = opening.replace("(BASE)", f"(BASE, num_labels={len(training['labels'])})")
        opening = opening.replace("ForCausalLM", "ForSequenceClassification")
    front = front_matter(
        origin,
        "adapter" if adapter else "finetune",
        datasets=dataset_names(training),
        tags=["lora" if adapter else "full", "edgeft"],
        task="text-classification" if training.get("labels") else "text-generation",
        library="peft" if adapter else "transformers",
    )
    rows = f"{figures['rows']} rows"
    if figures.get("trained_tokens"):
        rows += f" ({figures['trained_tokens']} trained tokens an epoch)"
    return "\n".join(
        (
            *front,
            f"# {'LoRA adapter of' if adapter else 'Fine-tuned'} {named}",
            "",
            f"Trained with edgeft ({training['objective']}) on {rows}, {training['steps']} steps, the base {held}. "
            "`training.json` holds all settings, `curve.jsonl` the losses.",
            opening if adapter else "",
        )
    )
