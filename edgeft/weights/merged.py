"""The door of the package: a base checkpoint, with an adapter folded into each weight as it is read.

Called by the exporters (through `ExportSource.weights`). Reads headers and JSON now; values when a tensor is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.files import read_json
from edgeft.weights.adapter import Adapter, open_adapter
from edgeft.weights.checkpoint import open_checkpoint, read_config
from edgeft.weights.deferred import Deferred, Weights
from edgeft.weights.dequantized import Dequantized, FourBit
from edgeft.weights.dtypes import FLOATS
from edgeft.weights.fold import Cast, Finite, Folded

MERGE_BASES = ("dequantized", "pristine")
TRAINING = "training.json"


def open_weights(base: Path, adapter: Path | None = None, *, merge_base: str = "dequantized") -> Weights:
    """The merged weights of a checkpoint folder: same names, shapes, dtypes and order as the base.

    merge_base  "dequantized": weights that `training.json` says were quantized in training are taken as the 4-bit model
                held them; "pristine": as the checkpoint has them. Raises `ModelError` for what does not fit together.
    """
    if merge_base not in MERGE_BASES:
        raise ModelError(f"unknown merge_base {merge_base!r}", do=f"known: {', '.join(MERGE_BASES)}")
    config = read_config(base)
    if config.get("quantization_config"):
        raise ModelError(
            "the base checkpoint is itself quantized; edgeft merges into 16- or 32-bit checkpoints",
            where=base / "config.json",
        )
    tensors = open_checkpoint(base)
    if adapter is None:
        return {name: _checked(tensor) for name, tensor in tensors.items()}
    opened = open_adapter(adapter)
    four_bit = quantization(adapter) if merge_base == "dequantized" else None
    _check_fit(base, config, tensors, opened, four_bit)
    return {name: _merged(tensor, opened, four_bit) for name, tensor in tensors.items()}


def open_base(base: Path, adapter: Path | None = None, *, merge_base: str = "dequantized") -> Weights:
    """The weights that an adapter goes on, without it: of the checkpoint, or ("dequantized", when `training.json` says
    that weights were quantized) as the 4-bit model held them, in the checkpoint's dtypes."""
    tensors = open_weights(base)
    four_bit = quantization(adapter) if adapter and merge_base == "dequantized" else None
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


def _checked(tensor: Deferred) -> Deferred:
    return Finite(tensor, tensor.name, "the base's") if tensor.dtype in FLOATS else tensor


def _merged(tensor: Deferred, adapter: Adapter, four_bit: FourBit | None) -> Deferred:
    name, dtype = tensor.name, tensor.dtype
    if dtype not in FLOATS:
        return tensor
    source: Deferred = tensor
    if name in adapter.replaced:
        source = adapter.replaced[name]
        source = source if source.dtype == dtype else Cast(source, dtype)
    elif four_bit and name in four_bit.weights:
        source = Dequantized(tensor, four_bit)
    if name in adapter.loras:
        return Finite(Folded(source, adapter.loras[name], dtype), name, "the merged")
    whose = "the adapter's" if name in adapter.replaced else "the base's"
    return Finite(source if source.dtype == dtype else Cast(source, dtype), name, whose)


def _check_fit(
    base: Path, config: dict[str, Any], tensors: dict[str, Deferred], adapter: Adapter, four_bit: FourBit | None
) -> None:
    tied = bool(config.get("tie_word_embeddings"))
    for name, lora in adapter.loras.items():
        _check_target(base, tensors, adapter, name, lora.shape, tied)
    for name, tensor in adapter.replaced.items():
        _check_target(base, tensors, adapter, name, tensor.shape, tied)
    absent = sorted(four_bit.weights - set(tensors)) if four_bit else []
    if absent:
        raise ModelError(
            f"training.json names the quantized weight {absent[0]!r}, which this base does not have",
            where=adapter.folder / TRAINING,
            do="give the base model the adapter was trained on",
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
