"""An adapter's names on a base whose file calls the same parts otherwise.

Transformers has renamed the parts of models of text and images: an adapter is named as the version that trained it
names the modules (`model.language_model.layers.0…`), the base's file as the one that saved it
(`language_model.model.layers.0…`, as most published checkpoints). Called by `merged`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from edgeft.weights.adapter import Adapter
from edgeft.weights.dequantized import FourBit

Value = TypeVar("Value")
_TEXT = ("model.language_model.", "language_model.model.", "model.text_model.", "text_model.model.", "model.")
_PARTS = ("layers.", "embed_tokens.", "norm.", "embedding_norm.")
# Each row: the beginnings that name the same part. Source: Transformers' own table of renamings
# (`transformers.conversion_mapping`, the rows of models with a language_model, text_model, vision_tower or visual).
SAME: tuple[tuple[str, ...], ...] = (
    *(tuple(text + part for text in _TEXT) for part in _PARTS),
    ("lm_head.", "language_model.lm_head.", "text_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.visual.", "visual."),
)


def renaming(names: Collection[str]) -> Callable[[str], str]:
    """What a checkpoint with these tensor names calls a weight that may be named as another version names it. A name
    that begins as one of the checkpoint's own does, or as none in the table, stays."""
    moved: dict[str, str] = {}
    for row in SAME:
        there = [start for start in row if any(name.startswith(start) for name in names)]
        if len(there) == 1:  # of two the names are told apart: nothing to move
            moved |= {start: there[0] for start in row if start != there[0]}

    def called(name: str) -> str:
        start = next((start for start in moved if name.startswith(start)), None)
        return name if start is None else moved[start] + name.removeprefix(start)

    return called


def adapter_as(adapter: Adapter, names: Collection[str]) -> Adapter:
    """The adapter with its weights named as the base names them."""
    called = renaming(names)

    def table(values: Mapping[str, Value]) -> dict[str, Value]:
        return {called(name): value for name, value in values.items()}

    moved = {called(name): lora for name, lora in adapter.loras.items()}
    return replace(
        adapter,
        loras={name: replace(lora, module=name.removesuffix(".weight")) for name, lora in moved.items()},
        replaced=table(adapter.replaced),
        shifts=table(adapter.shifts),
        tokens=table(adapter.tokens),
    )


def four_bit_as(how: FourBit, names: Collection[str]) -> FourBit:
    """The quantized weights of training.json, named as the base names them."""
    return replace(how, weights=frozenset(map(renaming(names), how.weights)))
