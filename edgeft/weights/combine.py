"""Several adapters of one base combined into a new one, or one scaled. Called by `edgeft merge`.

The methods are those of peft's `LoraModel.add_weighted_adapter`, computed by peft's own functions (`peft.utils.
merge_utils`) layer by layer from the adapters' files: no base model is opened, and one layer is in memory at a time.
What is combined: `linear` and the pruning methods work on A and B apart (each weighted by the square root of weight x
scale), `cat` stacks them (exact; ranks add up), `svd` and the `_svd` forms work on B @ A and split the result again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import InputError, ModelError
from edgeft.extras import imported
from edgeft.files import write_bytes, write_json
from edgeft.registry import suggestion
from edgeft.weights.adapter import CONFIG, PREFIX, WEIGHTS, Adapter, Lora, open_adapter
from edgeft.weights.checkpoint import read_table
from edgeft.weights.fold import matrix
from edgeft.weights.threads import torch_threads

if TYPE_CHECKING:
    import torch

PRUNING = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
METHODS = ("linear", "cat", *PRUNING, "svd", *(f"{name}_svd" for name in PRUNING))
COMBINED = "combined.json"
TRAINING = "training.json"
_COPIED = (TRAINING, "README.md", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# What makes adapters comparable, in their training.json.
_SAME = ("base", "quantization", "chat_template", "stop_ids")


@dataclass(frozen=True)
class Recipe:
    """How adapters are combined. weights: one per adapter, negative ones take away; density: the share of values that
    the pruning methods keep; rank: of the svd methods (default: the largest); seed: of what dare drops."""

    weights: tuple[float, ...]
    method: str = "linear"
    density: float | None = None
    rank: int | None = None
    seed: int = 0

    def check(self, count: int) -> None:
        """An `InputError` for what does not make sense for `count` adapters."""
        if self.method not in METHODS:
            raise InputError(f"unknown method {self.method!r}", do=suggestion(self.method, METHODS))
        if len(self.weights) != count:
            raise InputError(f"{count} adapters and {len(self.weights)} weights", do="give one weight for each adapter")
        if not all(math.isfinite(weight) for weight in self.weights) or not any(self.weights):
            raise InputError(f"the weights {', '.join(map(str, self.weights))} cannot be used")
        prunes = self.method.removesuffix("_svd") in PRUNING
        if prunes != (self.density is not None):
            say = "needs a density: the share of values it keeps" if prunes else "has no density"
            raise InputError(f"the method {self.method} {say}")
        if self.density is not None and not 0 < self.density <= 1:
            raise InputError(f"the density is {self.density}; it lies between 0 and 1")
        if self.rank is not None and ("svd" not in self.method or self.rank < 1):
            raise InputError(f"the method {self.method} does not take the rank {self.rank}", do="it is for svd methods")


def scaled(adapter: Path, scale: float, out: Path) -> None:
    """Write `adapter` with all its low-rank changes times `scale` into the folder `out`: alpha says it, values stay.

    As peft's `set_scale`: trained biases, tokens and whole modules are not scaled, so adapters with them are refused.
    """
    if not math.isfinite(scale):
        raise InputError(f"the scale {scale} cannot be used")
    _only_matrices(open_adapter(adapter), dora=True)
    config = read_table(adapter / CONFIG)
    patterns = {key: scale * value for key, value in (config.get("alpha_pattern") or {}).items()}
    config |= {"lora_alpha": scale * config["lora_alpha"], "alpha_pattern": patterns}
    write_bytes(out / WEIGHTS, (adapter / WEIGHTS).read_bytes())
    _finish(out, [adapter], config, {"weights": [scale], "method": "scale"})


def combine(adapters: Sequence[Path], how: Recipe, out: Path) -> None:
    """Write the combination of adapter folders as a new adapter into the folder `out`, with a combined.json.

    Raises `ModelError` for adapters that were trained on different bases or hold more than LoRA matrices, and where a
    method needs equal ranks; `InputError` for a recipe that does not fit.
    """
    import torch
    from safetensors.torch import save_file

    how.check(len(adapters))
    opened = [open_adapter(folder) for folder in adapters]
    for adapter in opened:
        _only_matrices(adapter, dora=False)
    _check_alike(adapters)
    ranks = [max(lora.a.shape[0] for lora in adapter.loras.values()) for adapter in opened]
    rank = sum(ranks) if how.method == "cat" else how.rank or max(ranks)
    tensors: dict[str, torch.Tensor] = {}
    modules = sorted({lora.module for adapter in opened for lora in adapter.loras.values()})
    with torch_threads(1), torch.random.fork_rng(devices=[]):
        for module in modules:
            parts = [(adapter.loras.get(f"{module}.weight"), w) for adapter, w in zip(opened, how.weights, strict=True)]
            given = [(lora, weight) for lora, weight in parts if lora is not None]
            torch.manual_seed(_seed(how.seed, module))
            a, b = _combined(module, given, how, rank)
            embedding = "embedding_" if given[0][0].transposed else ""
            dot = "" if embedding else ".weight"
            tensors[f"{PREFIX}{module}.lora_{embedding}A{dot}"] = a.contiguous()
            tensors[f"{PREFIX}{module}.lora_{embedding}B{dot}"] = b.contiguous()
    save_file(tensors, out / WEIGHTS, {"format": "pt"})
    config = dict(opened[0].config) | {"r": rank, "lora_alpha": rank, "use_rslora": False, "target_modules": modules}
    config |= dict.fromkeys(("layers_to_transform", "layers_pattern", "exclude_modules"))
    ranks_of = {module: _rank(tensors, module) for module in modules}
    ranked = {module: own for module, own in ranks_of.items() if own != rank}
    config |= {"rank_pattern": ranked, "alpha_pattern": dict(ranked)}
    described: dict[str, Any] = {"weights": list(how.weights), "method": how.method, "rank": rank}
    if how.density is not None:
        described |= {"density": how.density, "seed": how.seed}
    _finish(out, adapters, config, described)


def _rank(tensors: Mapping[str, torch.Tensor], module: str) -> int:
    """The rank that a module has in an adapter's tensors."""
    names = (f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_embedding_A")
    return next(int(tensors[name].shape[0]) for name in names if name in tensors)


def _combined(
    module: str, given: list[tuple[Lora, float]], how: Recipe, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 A and B of one layer whose `B @ A` is the combination: their scale is 1."""
    import torch

    shapes = {(lora.b.shape[0], lora.a.shape[1]) for lora, _ in given}
    if len(shapes) > 1:
        raise ModelError(f"the adapters' changes of {module!r} have different shapes: {sorted(shapes)}")
    pairs = [(matrix(lora.a), matrix(lora.b), weight * lora.scale) for lora, weight in given]
    if how.method == "cat":
        return torch.cat([a * scale for a, _, scale in pairs]), torch.cat([b for _, b, _ in pairs], dim=1)
    if how.method.endswith("svd"):
        deltas = [b @ a * lora.scale for (a, b, _), (lora, _) in zip(pairs, given, strict=True)]
        changed = _merged(how.method.removesuffix("_svd"), deltas, [weight for _, weight in given], how.density)
        u, s, v = torch.linalg.svd(changed, full_matrices=False)
        return v[:rank], u[:, :rank] @ torch.diag(s[:rank])
    if len({len(a) for a, _, _ in pairs}) > 1:
        ranks = ", ".join(str(len(a)) for a, _, _ in pairs)
        raise ModelError(
            f"the method {how.method} needs equal ranks, {module!r} has {ranks}", do="use cat, svd or a method on _svd"
        )
    roots = [math.sqrt(abs(scale)) for _, _, scale in pairs]
    signed = [math.copysign(root, scale) for root, (_, _, scale) in zip(roots, pairs, strict=True)]
    a = _merged(how.method, [a for a, _, _ in pairs], signed, how.density)
    return a, _merged(how.method, [b for _, b, _ in pairs], roots, how.density)


def _merged(method: str, tensors: list[torch.Tensor], weights: Sequence[float], density: float | None) -> torch.Tensor:
    """peft's function of a method."""
    import torch

    imported("bitsandbytes")  # before peft does
    from peft.utils import merge_utils

    values = torch.tensor(weights)
    if method in ("linear", "svd"):
        return merge_utils.task_arithmetic(tensors, values)
    if density == 1:  # peft warns that nothing is pruned
        density = math.nextafter(1, 0) if method == "magnitude_prune" else density
    functions = {name: getattr(merge_utils, name) for name in PRUNING}
    merged: torch.Tensor = functions[method](tensors, values, density)
    return merged


def _seed(seed: int, module: str) -> int:
    """What dare drops in a layer depends on the seed and the layer's name, not on the order of files."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{module}".encode()).digest()[:7], "big")


def _only_matrices(adapter: Adapter, *, dora: bool) -> None:
    """Refuse what the methods say nothing about."""
    if adapter.config.get("target_parameters"):
        raise ModelError("the adapter targets bare parameters, which cannot be weighted", where=adapter.folder)
    odd = {
        "trained biases": adapter.shifts,
        "modules saved whole": adapter.replaced,
        "trained tokens": adapter.tokens,
        "DoRA": {} if dora else {name: lora for name, lora in adapter.loras.items() if lora.magnitude is not None},
    }
    for what, found in odd.items():
        if found:
            raise ModelError(
                f"the adapter holds {what} ({next(iter(found))!r}), which cannot be weighted", where=adapter.folder
            )


def _check_alike(adapters: Sequence[Path]) -> None:
    """Adapters of one base only, taught with one template, in one precision."""
    first = _known(adapters[0])
    for folder in adapters[1:]:
        other = _known(folder)
        for key in _SAME:
            if first.get(key) != other.get(key):
                raise ModelError(
                    f"the adapters differ in the {key} they were trained with",
                    where=folder,
                    do=f"combine adapters that were trained alike; the first is {adapters[0]}",
                )


def _known(folder: Path) -> dict[str, Any]:
    return read_table(folder / TRAINING) if (folder / TRAINING).is_file() else {}


def _finish(out: Path, adapters: Sequence[Path], config: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """The config, what belongs to the first adapter, and combined.json: what was combined, by name and digest."""
    from edgeft.files import digest_file

    write_json(out / CONFIG, dict(config))
    for name in _COPIED:
        if (adapters[0] / name).is_file():
            write_bytes(out / name, (adapters[0] / name).read_bytes())
    made_of = [{"name": path.name, "digest": digest_file(path / WEIGHTS)} for path in adapters]
    write_json(out / COMBINED, {"adapters": made_of, **json.loads(json.dumps(dict(described)))})
