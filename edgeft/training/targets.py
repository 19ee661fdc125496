"""Which modules and tokens of a base get trained weights, by the recipe's words. Used by `edgeft.training.adapter`."""

from __future__ import annotations

import re
from typing import Any

from edgeft.errors import InputError, ModelError
from edgeft.models.heads import HEADS, head_module

_PARTS = {
    "attention": re.compile(r"attn|attention"),
    # BERT and its kin call the two layers of their MLP `intermediate.dense` and `output.dense`.
    "mlp": re.compile(r"mlp|feed_forward|ffn|experts|intermediate\.|(?<!attention\.)output\.dense"),
}
_LAYER = re.compile(r"\.(\d+)\.")


def target_modules(model: Any, wanted: str | list[str], layers: list[int] | None) -> str | list[str]:
    """What peft is told: "all-linear", or the full names of the linear layers of a part, of names, of layers.

    wanted  "all-linear", "attention", "mlp", or the last parts of names
    layers  [first, last], both included, negative ones from the end
    A `ModelError` when nothing is left.
    """
    encoder = hasattr(model, "edgeft_labels") and not hasattr(model, "score")  # its head may hold several layers
    if layers is None and not (isinstance(wanted, str) and (wanted in _PARTS or encoder)):
        return wanted if isinstance(wanted, str) else list(wanted)
    linear = _linear_layers(model)
    numbers = {int(match[1]) for name in linear if (match := _LAYER.search(name))}
    kept = [name for name in linear if _is_wanted(name, wanted)]
    if layers is not None:
        count = max(numbers, default=-1) + 1
        first, last = (value + count if value < 0 else value for value in layers)
        if not 0 <= first <= last < count:
            raise ModelError(f"lora_layers {layers} are not layers of the model", do=f"it has 0 to {count - 1}")
        kept = [name for name in kept if (match := _LAYER.search(name)) and first <= int(match[1]) <= last]
    if not kept:
        raise ModelError(f"lora_target_modules {wanted!r} do not fit the base model", do=f"it has: {_names(linear)}")
    return kept


def token_ids(tokenizer: Any, tokens: list[str]) -> list[int]:
    """The ids of tokens, ascending; an `InputError` for a text that is no single token of the vocabulary."""
    found = []
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise InputError(
                f"trainable_tokens: {token!r} is no token of the base model",
                do="name tokens that its vocabulary has, such as those of its chat template",
            )
        found.append(int(vocabulary[token]))
    return sorted(set(found))


def _linear_layers(model: Any) -> list[str]:
    """Names of all linear layers, without the head."""
    import torch

    kinds: tuple[type, ...] = (torch.nn.Linear,)
    try:
        from transformers.pytorch_utils import Conv1D

        kinds = (torch.nn.Linear, Conv1D)
    except ImportError:
        pass
    heads = {
        id(module) for module in (model.get_output_embeddings(), getattr(model, "score", None)) if module is not None
    }
    whole = {*HEADS, *getattr(model, "edgeft_started", ())}  # trained and saved as they are
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, kinds) and id(module) not in heads and head_module(name) not in whole
    ]


def _is_wanted(name: str, wanted: str | list[str]) -> bool:
    if wanted == "all-linear":
        return True
    if isinstance(wanted, str):
        return bool(_PARTS[wanted].search(name))
    return any(name == part or name.endswith(f".{part}") for part in wanted)


def _names(linear: list[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
