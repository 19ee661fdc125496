"""LoRA on the stacked experts of a mixture (peft's `target_parameters`), taken apart into changes of single experts.

Transformers holds all experts of a layer in two parameters, gate_up_proj (experts, 2 x intermediate, hidden) and
down_proj (experts, hidden, intermediate); checkpoints hold each expert's gate_proj, up_proj and down_proj. peft's A is
(experts x rank, in), its B (out, rank x experts), B's expert index running fastest (`ParamWrapper.get_delta_weight`).
Which of the two parameters a pair changes is told by its shapes: they cannot be the same. Called by `merged`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeft.errors import ModelError
from edgeft.weights.adapter import Adapter, Lora
from edgeft.weights.deferred import Deferred

if TYPE_CHECKING:
    import torch

_EXPERT = re.compile(r"^(?P<module>.+\.experts)\.(?P<number>\d+)\.gate_proj\.weight$")


class Part(Deferred):
    """The part of an A or B that belongs to one expert; `rows`: of B, those of gate_proj or up_proj."""

    def __init__(self, whole: Deferred, side: str, expert: int, experts: int, rows: slice) -> None:
        self.whole, self.side, self.expert, self.experts, self.rows_of = whole, side, expert, experts, rows
        self.name, self.dtype, self.path = whole.name, whole.dtype, getattr(whole, "path", None)
        height, width = whole.shape
        shown = range(height)[rows]
        self.shape = (height // experts, width) if side == "A" else (len(shown), width // experts)

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        values = self.whole.read()
        if self.side == "A":
            part = values.reshape(self.experts, -1, values.shape[-1])[self.expert]
        else:
            part = values.reshape(values.shape[0], -1, self.experts)[self.rows_of, :, self.expert].contiguous()
        yield part[start : self.n_rows if stop is None else stop]


def expanded(adapter: Adapter, tensors: Mapping[str, Deferred]) -> Adapter:
    """The adapter with changes of stacked experts as changes of the single ones that the checkpoint names. A
    `ModelError` when the checkpoint has none, or they do not fit."""
    if not adapter.config.get("target_parameters"):
        return adapter
    counts: dict[str, int] = {}
    for name in tensors:
        match = _EXPERT.match(name)
        if match:
            counts[match["module"]] = max(counts.get(match["module"], 0), int(match["number"]) + 1)
    loras: dict[str, Lora] = {}
    for name, lora in adapter.loras.items():
        module = lora.module.replace(".base_layer", "")
        if module in counts:
            loras |= dict(_of_experts(adapter, lora, module, counts[module], tensors))
        elif name in tensors:
            loras[name] = lora
        else:
            raise ModelError(
                f"the adapter targets bare parameters of {module!r}, and this base has no single experts there",
                where=adapter.folder,
                do="edgeft knows checkpoints with experts.N.gate_proj, up_proj and down_proj",
            )
    return replace(adapter, loras=loras)


def _of_experts(
    adapter: Adapter, lora: Lora, module: str, experts: int, tensors: Mapping[str, Deferred]
) -> Iterator[tuple[str, Lora]]:
    first = tensors[f"{module}.0.gate_proj.weight"].shape
    if len(first) != 2:
        raise ModelError(f"the weight of {module}.0.gate_proj is {first}")
    inner, hidden = first
    pair = (lora.b.shape[0], lora.a.shape[1])
    if lora.a.shape[0] % experts or pair not in ((2 * inner, hidden), (hidden, inner)):
        raise ModelError(
            f"the adapter's change of {module!r} is {pair} with {lora.a.shape[0]} rows in A; the base has {experts} "
            f"experts of {inner} x {hidden}",
            where=adapter.folder,
            do="give the base the adapter was trained on",
        )
    names = {"down_proj": slice(None)}
    if pair == (2 * inner, hidden):
        names = {"gate_proj": slice(inner), "up_proj": slice(inner, None)}
    for expert in range(experts):
        for leaf, rows in names.items():
            own = f"{module}.{expert}.{leaf}"
            a = Part(lora.a, "A", expert, experts, slice(None))
            b = Part(lora.b, "B", expert, experts, rows)
            yield f"{own}.weight", Lora(own, a, b, lora.scale)
