"""The door of the package: a base checkpoint, with an adapter folded into each weight as it is read.

Called by the exporters (through `ExportSource.weights`). Reads headers and JSON now; values when a tensor is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.files import read_json
from edgeft.weights.adapter import CONFIG as ADAPTER_CONFIG
from edgeft.weights.adapter import Adapter, Tokens, open_adapter
from edgeft.weights.checkpoint import open_checkpoint, read_config
from edgeft.weights.deferred import Deferred, Weights
from edgeft.weights.dequantized import Dequantized, FourBit
from edgeft.weights.dtypes import FLOATS
from edgeft.weights.experts import expanded
from edgeft.weights.fold import Cast, Finite, Folded, Retaught, Shifted
from edgeft.weights.fourbit import check_quantization, is_four_bit, unpacked
from edgeft.weights.renamed import adapter_as, four_bit_as

MERGE_BASES = ("dequantized", "pristine")
TRAINING = "training.json"
_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")  # model types whose layers are Conv1D
_HEADS = ("lm_head.weight", "score.weight")  # plain linear layers also there


@dataclass(frozen=True)
class Opened:
    """A base's tensors and what an adapter does to them, known to fit together."""

    tensors: Weights
    adapter: Adapter
    four_bit: FourBit | None
    conv1d: bool

    def source(self, name: str) -> Deferred:
        """What a weight's change is folded into: the checkpoint's own, saved whole by the adapter, or dequantized."""
        tensor = self.tensors[name]
        if name in self.adapter.replaced:
            saved = self.adapter.replaced[name]
            return saved if saved.dtype == tensor.dtype else Cast(saved, tensor.dtype)
        if self.four_bit and name in self.four_bit.weights:
            return Dequantized(tensor, self.four_bit)
        return tensor

    def folded(self, name: str) -> Folded:
        """A weight with its low-rank change."""
        tensor = self.tensors[name]
        return Folded(self.source(name), self.adapter.loras[name].fitted(tensor.shape, self.conv1d), tensor.dtype)

    def merged(self, name: str) -> Deferred:
        """A weight as the merged model has it, its values checked as they pass."""
        tensor, adapter = self.tensors[name], self.adapter
        dtype = tensor.dtype
        if dtype not in FLOATS:
            return tensor
        if name in adapter.loras:
            return Finite(self.folded(name), name, "the merged")
        source = self.source(name)
        if name in adapter.shifts:
            return Finite(Shifted(source, adapter.shifts[name], dtype), name, "the merged")
        source = source if source.dtype == dtype else Cast(source, dtype)
        if name in adapter.tokens:
            source = Retaught(source, adapter.tokens[name])
        return Finite(source, name, "the adapter's" if name in adapter.replaced else "the base's")


def open_weights(base: Path, adapter: Path | None = None, *, merge_base: str = "dequantized") -> Weights:
    """The merged weights of a checkpoint folder: same names, shapes, dtypes and order as the base. A bitsandbytes 4-bit
    checkpoint is taken dequantized, in the dtype that its weights had before.

    merge_base  "dequantized": weights that `training.json` says were quantized in training are taken as the 4-bit model
                held them; "pristine": as the checkpoint has them. Raises `ModelError` for what does not fit together.
    """
    _check_merge_base(merge_base)
    if adapter is not None and (adapter / "config.json").is_file() and not (adapter / ADAPTER_CONFIG).is_file():
        base, adapter = adapter, None  # full fine-tuning: a checkpoint of its own takes the base's place
    if adapter is None:
        tensors, _ = _base(base, read_config(base))
        return {name: _checked(tensor) for name, tensor in tensors.items()}
    opened = open_parts(base, adapter, merge_base=merge_base)
    return {name: opened.merged(name) for name in opened.tensors}


def open_parts(base: Path, adapter: Path, *, merge_base: str = "dequantized") -> Opened:
    """A base and an adapter apart, as `open_weights` folds them."""
    _check_merge_base(merge_base)
    config = read_config(base)
    tensors, packed = _base(base, config)
    opened = expanded(adapter_as(open_adapter(adapter), tensors), tensors)
    # The values of a 4-bit checkpoint are those that were trained on: there is nothing to quantize once more.
    four_bit = _quantization(adapter, tensors) if merge_base == "dequantized" and not packed else None
    _check_fit(base, config, tensors, opened, four_bit)
    return Opened(tensors, opened, four_bit, _is_conv1d(config, tensors, opened))


def _check_merge_base(merge_base: str) -> None:
    if merge_base not in MERGE_BASES:
        raise ModelError(f"unknown merge_base {merge_base!r}", do=f"known: {', '.join(MERGE_BASES)}")


def _base(base: Path, config: dict[str, Any]) -> tuple[dict[str, Deferred], bool]:
    """The base's tensors, and whether they lie there in 4 bits."""
    check_quantization(config, base / "config.json")
    tensors = open_checkpoint(base)
    packed = bool(config.get("quantization_config")) or is_four_bit(tensors)
    return (unpacked(tensors, base) if packed else tensors), packed


def _is_conv1d(config: dict[str, Any], tensors: dict[str, Deferred], adapter: Adapter) -> bool:
    """Whether the adapted layers are Conv1D (weights stored as (in, out)), where a square shape does not tell: as the
    model's other adapted layers are, else as its architecture has them."""
    found = [
        lora.fitted(tensors[name].shape, False).transposed
        for name, lora in adapter.loras.items()
        if not lora.transposed and lora.b.shape[0] != lora.a.shape[1] and not name.endswith(_HEADS)
    ]
    return any(found) if found else config.get("model_type") in _CONV1D


def open_base(base: Path, adapter: Path | None = None, *, merge_base: str = "dequantized") -> Weights:
    """The weights that an adapter goes on, without it: of the checkpoint, or ("dequantized", when `training.json` says
    that weights were quantized) as the 4-bit model held them, in the checkpoint's dtypes."""
    tensors = open_weights(base)
    four_bit = _quantization(adapter, tensors) if adapter and merge_base == "dequantized" else None
    if four_bit is None:
        return tensors
    return {
        name: Cast(Dequantized(tensor, four_bit), tensor.dtype) if name in four_bit.weights else tensor
        for name, tensor in tensors.items()
    }


def quantization(adapter: Path) -> FourBit | None:
    """How the base was quantized in training, by the adapter's training.json; None when it was not (or without one)."""
    path = adapter / TRAINING
    if not path.is_file():
        return None
    try:
        table: Any = read_json(path).get("quantization")
        return FourBit.of(table) if table else None
    except (ValueError, AttributeError) as error:
        raise ModelError(f"training.json cannot be read ({error})", where=path) from None


def _quantization(adapter: Path, tensors: Weights) -> FourBit | None:
    found = quantization(adapter)
    return found and four_bit_as(found, tensors)


def _checked(tensor: Deferred) -> Deferred:
    return Finite(tensor, tensor.name, "the base's") if tensor.dtype in FLOATS else tensor


def _check_fit(
    base: Path, config: dict[str, Any], tensors: dict[str, Deferred], adapter: Adapter, four_bit: FourBit | None
) -> None:
    tied = bool(config.get("tie_word_embeddings"))
    for name, lora in adapter.loras.items():
        fitted = lora.fitted(tensors[name].shape, False) if name in tensors else lora
        shape = tensors[name].shape if name in tensors and fitted.shape == tensors[name].shape else lora.shape
        _check_target(base, tensors, adapter, name, shape, tied)
    for name, shift in adapter.shifts.items():
        _check_target(base, tensors, adapter, name, shift.bias.shape, False)
    for name, tokens in adapter.tokens.items():
        _check_tokens(tensors, adapter, name, tokens)
    for name, tensor in adapter.replaced.items():
        _check_target(base, tensors, adapter, name, tensor.shape, tied)
    absent = sorted(four_bit.weights - set(tensors)) if four_bit else []
    if absent:
        raise ModelError(
            f"training.json names the quantized weight {absent[0]!r}, which this base does not have",
            where=adapter.folder / TRAINING,
            do="give the base model the adapter was trained on",
        )


def _check_tokens(tensors: dict[str, Deferred], adapter: Adapter, name: str, tokens: Tokens) -> None:
    """Trained rows fit the embedding. On tied embeddings they are right at both ends: peft trains them so."""
    if name not in tensors or name in adapter.loras:
        both = "has a low-rank change too" if name in tensors else "is not in the base"
        raise ModelError(f"the adapter has trained tokens of {name!r}, which {both}", where=adapter.folder)
    rows, width = tensors[name].shape
    if tokens.rows.shape[1] != width or max(tokens.indices, default=0) >= rows:
        raise ModelError(
            f"the adapter's trained tokens of {name!r} (up to {max(tokens.indices)}, width {tokens.rows.shape[1]}) do "
            f"not fit the base's {rows} rows of {width}",
            where=adapter.folder,
            do="give the base the adapter was trained on, with its embeddings resized",
        )


def _check_target(
    base: Path, tensors: dict[str, Deferred], adapter: Adapter, name: str, shape: tuple[int, ...], tied: bool
) -> None:
    its_base = adapter.config.get("base_model_name_or_path")
    do = f"the adapter's config names its base: {its_base}" if its_base else "give the base the adapter was trained on"
    if tied and name.endswith(("embed_tokens.weight", "lm_head.weight", "wte.weight")):
        raise ModelError(
            f"the adapter changes {name!r}, which this model ties to its other end: folding would change both",
            where=adapter.folder,
            do="train without the embeddings and the head among lora_target_modules and modules_to_save",
        )
    if name not in tensors:
        raise ModelError(
            f"the adapter changes {name!r}, which {base.name!r} does not have", where=adapter.folder, do=do
        )
    if tensors[name].dtype not in FLOATS:
        raise ModelError(
            f"{name!r} has the dtype {tensors[name].dtype}; an adapter cannot be folded into it", where=base
        )
    if tensors[name].shape != shape:
        raise ModelError(
            f"the adapter's change of {name!r} has the shape {shape}, the base's weight {tensors[name].shape}",
            where=adapter.folder,
            do=do,
        )
