"""The trained model's own answer to a short text, in the memory of one layer: what an exported graph is compared with.

transformers computes it, in float32, with weights that are read and folded when a layer begins and dropped when it
ends; of the embeddings only the text's rows are read, the last product is taken a few rows of its weight at a time. So
a model of any size is compared without being held. Called by `decoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError
from edgeft.exporters.onnx.memory import give_back
from edgeft.exporters.onnx.streamed import sources
from edgeft.weights import Deferred, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

# Mean KL in nats beyond which a graph is not the model in another form but another model (as `evals.fidelity` has it).
WORST_MEAN_KL = {"fp32": 0.01, "fp16": 0.01, "bf16": 0.05, "int8": 0.05, "int4": 1.0}


def logits_of(checkpoint: Path, weights: Weights, ids: Sequence[int]) -> NDArray[np.float32]:
    """float32[T, V] logits of the model that `checkpoint` (config.json) describes, with the values of `weights`.

    Raises `NotCarried` for weights that have no place in it.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    model.tie_weights()
    found = sources(model, weights)
    names = {id(module): name for name, module in model.named_modules()}
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    table.forward = _lookup(found[f"{names[id(table)]}.weight"], float(getattr(table, "scalar_embed_scale", 1.0)))
    head.forward = _product(found[f"{names[id(head)]}.weight"], found.get(f"{names[id(head)]}.bias"))
    for name, module in _parts(model, apart=(table, head)):
        _read_late(module, name, found)
    with torch.inference_mode():
        given = model.eval()(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    logits: NDArray[np.float32] = given.float().numpy()
    del model
    give_back()
    return logits


def _parts(model: Any, apart: Sequence[Any]) -> list[tuple[str, Any]]:
    """(name, module) whose weights are read and dropped together: each layer, and what has weights outside of them."""
    import torch

    layers = [
        (f"{name}.{index}", layer)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
        for index, layer in enumerate(module)
    ]
    outermost = [
        (name, layer) for name, layer in layers if not any(name.startswith(f"{other}.") for other, _ in layers)
    ]
    inside = tuple(f"{name}." for name, _ in outermost)
    others = [
        (name, module)
        for name, module in model.named_modules()
        if module._parameters and not any(module is other for other in apart) and not f"{name}.".startswith(inside)
    ]
    return [*outermost, *others]


def _read_late(part: Any, prefix: str, found: Mapping[str, Deferred]) -> None:
    """Let a part of the model have its values only while it computes."""
    import torch

    def put(values: bool) -> None:
        for name, _ in list(part.named_parameters()):
            path, _, leaf = name.rpartition(".")
            kept = found[f"{prefix}.{name}"].read() if values else torch.empty(0, device="meta")
            part.get_submodule(path)._parameters[leaf] = torch.nn.Parameter(kept, requires_grad=False)

    part.register_forward_pre_hook(lambda *_: put(True))
    part.register_forward_hook(lambda *_: put(False))


def _lookup(table: Deferred, scale: float) -> Any:
    import torch

    def forward(ids: torch.Tensor) -> torch.Tensor:
        rows = [table.rows(int(token), int(token) + 1) for token in ids.flatten().tolist()]
        return torch.cat(rows).reshape(*ids.shape, table.shape[1]) * scale

    return forward


def _product(weight: Deferred, bias: Deferred | None) -> Any:
    import torch

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        given = torch.cat([hidden @ chunk.T for chunk in weight.chunks()], dim=-1)
        return given if bias is None else given + bias.read()

    return forward


def compared(expected: NDArray[np.float32], given: NDArray[np.float32], type_name: str) -> dict[str, Any]:
    """What the graph's logits float32[T, V] are to the model's: {"tokens", "mean_kl", "top1_agreement",
    "furthest_logit"}. Raises `EdgeftError` when it is another model."""
    import numpy as np

    columns = min(expected.shape[1], given.shape[1])
    first, second = expected[:, :columns].astype(np.float64), given[:, :columns].astype(np.float64)
    for side in (first, second):
        side -= side.max(axis=1, keepdims=True)
    furthest = float(np.abs(first - second).max())
    for side in (first, second):
        side -= np.log(np.exp(side).sum(axis=1, keepdims=True))
    kl = float((np.exp(first) * (first - second)).sum(axis=1).mean())
    same = float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
    if not kl <= WORST_MEAN_KL[type_name]:
        raise EdgeftError(
            f"the exported graph is not the model that went in: mean KL divergence {kl:.3g} nats over {len(first)} "
            f"tokens of a built-in text, more than what {type_name} costs",
            do="the folder was not accepted; --no-check skips this comparison",
        )
    return {
        "tokens": len(first),
        "mean_kl": round(kl, 9),
        "top1_agreement": round(same, 6),
        "furthest_logit": round(furthest, 6),
    }
