"""A peft LoRA adapter folder, taken apart into what it does to each weight. Read by `merged` alone.

LoRA and DoRA, LoRA biases, trained biases, trained single tokens, modules saved whole. What cannot be folded exactly (a
base changed by the initialisation, routing by input, …) is refused with its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.weights.checkpoint import read_table, shard_path
from edgeft.weights.deferred import Deferred
from edgeft.weights.dtypes import FLOATS
from edgeft.weights.safetensors import open_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
PREFIX = "base_model.model."
_LORA = re.compile(
    r"^(?P<module>.+)\.lora_(?:(?P<embedding>embedding)_)?(?P<side>A|B|magnitude_vector)(?:\.(?P<kind>weight|bias))?$"
)
_TOKENS = ".token_adapter.trainable_tokens_delta"
# Options of LoraConfig that change what is computed; each is refused unless it is off.
_REFUSED = {
    "layer_replication": "replicated layers",
    "alora_invocation_tokens": "activated LoRA",
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
    """A low-rank change of one weight: `scale * B @ A`, transposed first when `transposed` (embeddings, Conv1D).

    a: (rank, in), b: (out, rank), in the adapter file's own dtype; float32 once read. magnitude: of DoRA, the norms
    that the rows (transposed: columns) of the changed weight are brought to, one for each.
    """

    module: str
    a: Deferred
    b: Deferred
    scale: float
    transposed: bool = False
    magnitude: Deferred | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight that this changes."""
        shape = (self.b.shape[0], self.a.shape[1])
        return (shape[1], shape[0]) if self.transposed else shape

    def fitted(self, shape: tuple[int, ...], conv1d: bool) -> Lora:
        """The change as a weight of this shape needs it: `B @ A` is (out, in), Conv1D layers hold (in, out).

        Only a square weight's shape does not tell which; then `conv1d` decides. (The config's `fan_in_fan_out` is that
        of the layer which peft met last.)
        """
        straight = (self.b.shape[0], self.a.shape[1])
        if self.transposed or shape not in (straight, straight[::-1]):
            return self
        return replace(self, transposed=conv1d if straight[0] == straight[1] else shape != straight)


@dataclass(frozen=True)
class Shift:
    """A trained bias of a LoRA layer: `scale * bias` is added to the layer's own bias."""

    bias: Deferred
    scale: float


@dataclass(frozen=True)
class Tokens:
    """Trained rows of an embedding: `rows[i]` takes the place of row `indices[i]`."""

    indices: tuple[int, ...]
    rows: Deferred


@dataclass(frozen=True)
class Adapter:
    """An adapter folder. By the checkpoint's names: `loras` of the weights changed, `replaced` of those saved whole (a
    weight in both is the saved one with the change added), `shifts` of biases, `tokens` of embeddings."""

    folder: Path
    config: Mapping[str, Any]
    loras: Mapping[str, Lora]
    replaced: Mapping[str, Deferred]
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)


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
    tensors = open_file(shard_path(folder, WEIGHTS))
    pairs: dict[str, dict[str, Deferred]] = {}
    embeddings: set[str] = set()
    replaced: dict[str, Deferred] = {}
    tokens: dict[str, Tokens] = {}
    for key, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise ModelError(f"the adapter's {key!r} has the dtype {tensor.dtype}", where=folder / WEIGHTS)
        name = key.removeprefix(PREFIX)
        match = _LORA.match(name)
        if match and tensor.name.startswith(PREFIX):
            side = "bias" if match["kind"] == "bias" else match["side"]
            pairs.setdefault(match["module"], {})[side] = tensor
            if match["embedding"]:
                embeddings.add(match["module"])
        elif key.startswith(PREFIX) and name.endswith(_TOKENS):
            module = name.removesuffix(_TOKENS)
            tokens[f"{module}.weight"] = Tokens(_indices(folder, config, module, tensor), tensor)
        elif key.startswith(PREFIX) and _is_saved_whole(name, config):
            replaced[name.replace(".modules_to_save", "").replace(".base_layer", "")] = tensor
        else:
            raise ModelError(f"edgeft cannot fold the adapter's tensor {key!r}", where=folder / WEIGHTS)
    loras = {
        f"{module}.weight": _lora(folder, config, module, pair, embedding=module in embeddings)
        for module, pair in pairs.items()
    }
    shifts = {
        f"{module}.bias": Shift(pair["bias"], loras[f"{module}.weight"].scale)
        for module, pair in pairs.items()
        if "bias" in pair
    }
    if not loras and not replaced and not tokens:
        raise ModelError("the adapter has no tensors", where=folder / WEIGHTS)
    return Adapter(folder, config, loras, replaced, shifts, tokens)


def _indices(folder: Path, config: Mapping[str, Any], module: str, rows: Deferred) -> tuple[int, ...]:
    """Which tokens of a module were trained: of `trainable_token_indices`, a list, or a list per module."""
    table = config.get("trainable_token_indices")
    if isinstance(table, Mapping):
        table = next((value for name, value in table.items() if f".{module}".endswith(f".{name}")), None)
    if not isinstance(table, list) or not all(type(index) is int and index >= 0 for index in table):
        raise ModelError(f"the trained tokens of {module!r} are not listed (trainable_token_indices)", where=folder)
    if len(rows.shape) != 2 or rows.shape[0] != len(table) or len(set(table)) != len(table):
        raise ModelError(
            f"{len(table)} tokens of {module!r} are listed, the adapter's rows are {rows.shape}", where=folder
        )
    return tuple(table)


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / CONFIG
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"this is an adapter of the kind {kind!r}; edgeft folds LoRA", where=where)
    for option, what in _REFUSED.items():
        if config.get(option):
            raise ModelError(f"the adapter uses {what} ({option}), which edgeft cannot fold exactly", where=where)
    if config.get("target_parameters") and (config.get("rank_pattern") or config.get("alpha_pattern")):
        raise ModelError("the adapter targets bare parameters (target_parameters) with rank patterns", where=where)
    if config.get("init_lora_weights", True) not in _PLAIN_INIT:
        raise ModelError(
            f"the adapter was started with {config['init_lora_weights']!r}, which also changes the base weights",
            where=where,
            do="convert it with peft first: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )


def _is_saved_whole(name: str, config: Mapping[str, Any]) -> bool:
    """Whether peft saved this weight itself: of `modules_to_save`, a bias that was trained, or an embedding (saved when
    it was targeted)."""
    if name.endswith(".bias") and config.get("bias", "none") != "none":
        return True
    module = name.rpartition(".")[0].removesuffix(".modules_to_save").removesuffix(".base_layer")
    return any(module == saved or module.endswith("." + saved) for saved in (config.get("modules_to_save") or ())) or (
        name.endswith(".weight") and module.endswith(_EMBEDDINGS)
    )


def _lora(
    folder: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, Deferred], *, embedding: bool
) -> Lora:
    where = folder / WEIGHTS
    if not {"A", "B"} <= set(pair):
        raise ModelError(f"the adapter has only one of the two matrices of {module!r}", where=where)
    a, b, magnitude = pair["A"], pair["B"], pair.get("magnitude_vector")
    if bool(config.get("use_dora")) != (magnitude is not None):
        raise ModelError(f"{module!r} has {'no' if magnitude is None else 'a'} DoRA magnitude vector", where=where)
    rank = int(_pattern(config.get("rank_pattern"), module, config.get("r")))
    alpha = float(_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha")))
    if (
        len(a.shape) != 2
        or len(b.shape) != 2
        or a.shape[0] % rank
        or b.shape[1] != a.shape[0]
        or (a.shape[0] != rank and not config.get("target_parameters"))
    ):
        raise ModelError(
            f"the matrices of {module!r} are {a.shape} and {b.shape}; {CONFIG} says rank {rank}", where=where
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    if not math.isfinite(scale):
        raise ModelError(f"the scale of {module!r} is {scale}", where=folder / CONFIG)
    if "bias" in pair and pair["bias"].shape != (b.shape[0],):
        raise ModelError(f"the LoRA bias of {module!r} is {pair['bias'].shape}, not ({b.shape[0]},)", where=where)
    if magnitude is not None and magnitude.numel != b.shape[0]:
        raise ModelError(f"the magnitude vector of {module!r} is {magnitude.shape}, not ({b.shape[0]},)", where=where)
    return Lora(module, a, b, scale, embedding, magnitude)


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value for a module: of the first pattern that matches the end of its name, as peft's `get_pattern_key`."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
