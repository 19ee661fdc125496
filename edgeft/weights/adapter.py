"""A peft LoRA adapter folder, taken apart into what it does to each weight. Read by `merged` alone.

What cannot be folded exactly (DoRA, trained biases, a base changed by the initialisation, …) is refused with its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.weights.checkpoint import read_table
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import FLOATS
from edgeft.weights.safetensors import open_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_PREFIX = "base_model.model."
_LORA = re.compile(r"^(?P<module>.+)\.lora_(?:(?P<embedding>embedding)_)?(?P<side>[AB])(?:\.weight)?$")
# Options of LoraConfig that change what is computed; each is refused unless it is off.
_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA biases",
    "layer_replication": "replicated layers",
    "trainable_token_indices": "trained single tokens",
    "alora_invocation_tokens": "activated LoRA",
    "target_parameters": "LoRA on bare parameters",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
_EMBEDDINGS = ("embed_tokens", "lm_head")
_PLAIN_INIT = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base weights as well


@dataclass(frozen=True)
class Lora:
    """A low-rank change of one weight: `scale * B @ A`, transposed first when `transposed`.

    a: (rank, in), b: (out, rank), in the adapter file's own dtype; float32 once read.
    """

    module: str
    a: Deferred
    b: Deferred
    scale: float
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight that this changes."""
        shape = (self.b.shape[0], self.a.shape[1])
        return (shape[1], shape[0]) if self.transposed else shape


@dataclass(frozen=True)
class Adapter:
    """An adapter folder. By the checkpoint's names: `loras` of the weights changed, `replaced` of those saved whole (a
    weight in both is the saved one with the change added)."""

    folder: Path
    config: Mapping[str, Any]
    loras: Mapping[str, Lora]
    replaced: Mapping[str, Deferred]


def open_adapter(folder: Path) -> Adapter:
    """Read an adapter's config and headers. Raises `ModelError` for a pickle or what cannot be folded exactly."""
    config = read_table(folder / CONFIG)
    _check_config(folder, config)
    if not (folder / WEIGHTS).is_file():
        if (folder / _PICKLE).is_file():
            raise ModelError(
                f"the adapter is a pickle ({_PICKLE}), which can run code when it is opened",
                where=folder,
                do="save it again where you trust it: model.save_pretrained(folder)",
            )
        raise ModelError(f"the adapter has no {WEIGHTS}", where=folder)
    tensors = open_file(folder / WEIGHTS)
    pairs: dict[str, dict[str, Deferred]] = {}
    embeddings: set[str] = set()
    replaced: dict[str, Deferred] = {}
    for key, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise ModelError(f"the adapter's {key!r} has the dtype {tensor.dtype}", where=folder / WEIGHTS)
        name = key.removeprefix(_PREFIX)
        match = _LORA.match(name)
        if match and tensor.name.startswith(_PREFIX):
            pairs.setdefault(match["module"], {})[match["side"]] = tensor
            if match["embedding"]:
                embeddings.add(match["module"])
        elif key.startswith(_PREFIX) and _is_saved_whole(name, config):
            replaced[name.replace(".modules_to_save", "").replace(".base_layer", "")] = tensor
        else:
            raise ModelError(f"edgeft cannot fold the adapter's tensor {key!r}", where=folder / WEIGHTS)
    loras = {
        f"{module}.weight": _lora(folder, config, module, pair, embedding=module in embeddings)
        for module, pair in pairs.items()
    }
    if not loras and not replaced:
        raise ModelError("the adapter has no tensors", where=folder / WEIGHTS)
    return Adapter(folder, config, loras, replaced)


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / CONFIG
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"this is an adapter of the kind {kind!r}; edgeft folds LoRA", where=where)
    for option, what in _REFUSED.items():
        if config.get(option):
            raise ModelError(f"the adapter uses {what} ({option}), which edgeft cannot fold exactly", where=where)
    if config.get("bias", "none") != "none":
        raise ModelError(
            f"the adapter trained biases (bias: {config['bias']}), which edgeft does not fold", where=where
        )
    if config.get("init_lora_weights", True) not in _PLAIN_INIT:
        raise ModelError(
            f"the adapter was started with {config['init_lora_weights']!r}, which also changes the base weights",
            where=where,
            do="convert it with peft first: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )


def _is_saved_whole(name: str, config: Mapping[str, Any]) -> bool:
    """Whether peft saved this weight itself: of `modules_to_save`, or an embedding (saved when it was targeted)."""
    module = name.rpartition(".")[0].removesuffix(".modules_to_save").removesuffix(".base_layer")
    return any(module == saved or module.endswith("." + saved) for saved in (config.get("modules_to_save") or ())) or (
        name.endswith(".weight") and module.endswith(_EMBEDDINGS)
    )


def _lora(
    folder: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, Deferred], *, embedding: bool
) -> Lora:
    where = folder / WEIGHTS
    if set(pair) != {"A", "B"}:
        raise ModelError(f"the adapter has only one of the two matrices of {module!r}", where=where)
    a, b = pair["A"], pair["B"]
    rank = int(_pattern(config.get("rank_pattern"), module, config.get("r")))
    alpha = float(_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha")))
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise ModelError(
            f"the matrices of {module!r} are {a.shape} and {b.shape}; {CONFIG} says rank {rank}", where=where
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    if not math.isfinite(scale):
        raise ModelError(f"the scale of {module!r} is {scale}", where=folder / CONFIG)
    return Lora(module, a, b, scale, transposed=embedding or bool(config.get("fan_in_fan_out")))


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value for a module: of the first pattern that matches the end of its name, as peft's `get_pattern_key`."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
