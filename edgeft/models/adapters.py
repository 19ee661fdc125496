"""Attach a peft LoRA adapter to an open model, exactly: each of its tensors has a place there, and each place a tensor.

Used by `edgeft.models.open`. peft itself accepts adapters with NaN, and with layers missing or left over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.files import is_lfs_pointer
from edgeft.models.tokenizer import first_line

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"


def check_adapter_files(folder: Path) -> None:
    """A `ModelError` for a folder that is no safe, whole adapter. Imports nothing heavy."""
    if not (folder / CONFIG).is_file():
        raise ModelError("not an adapter: it has no adapter_config.json", where=folder)
    if not (folder / WEIGHTS).is_file():
        if (folder / _PICKLE).is_file():
            raise ModelError(
                f"the adapter is a pickle ({_PICKLE}), which can run code when it is opened",
                where=folder,
                do="use a safetensors copy, or save it again where you trust it: model.save_pretrained(folder)",
            )
        raise ModelError(f"the adapter has no {WEIGHTS}", where=folder)
    if is_lfs_pointer(folder / WEIGHTS):
        raise ModelError("this is a Git LFS pointer, not the weights", where=folder / WEIGHTS, do="run: git lfs pull")
    _config(folder)


def attach(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """`model` (a transformers causal language model) with the adapter of `folder`, as a `PeftModel` in eval mode."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    check_adapter_files(folder)
    if _config(folder).get("task_type") == "SEQ_CLS" and not hasattr(model, "edgeft_labels"):
        raise ModelError("the adapter was trained with a classification head", where=folder / CONFIG)
    tensors = _tensors(folder)
    try:
        config = LoraConfig.from_pretrained(str(folder))
        config.inference_mode = not trainable
        config.init_lora_weights = True  # the values come from the file; other kinds would change the base as well
        tuned = get_peft_model(model, config)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the adapter does not fit the base model ({first_line(error)})",
            where=folder,
            do="give the base model the adapter was trained on",
        ) from None
    _check_places(tuned, tensors, folder)
    set_peft_model_state_dict(tuned, tensors)
    return tuned if trainable else tuned.eval()


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, task = config.get("peft_type"), config.get("task_type")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"adapter_config.json cannot be read ({first_line(error)})", where=path) from None
    if kind != "LORA":
        raise ModelError(f"the adapter is of the type {kind}, not LORA", where=path)
    if task not in (None, "CAUSAL_LM", "SEQ_CLS"):
        raise ModelError(f"the adapter was trained for {task}, not for CAUSAL_LM", where=path)
    return dict(config)


def _tensors(folder: Path) -> dict[str, Any]:
    """The adapter's tensors; a `ModelError` when the file is damaged or holds NaN."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        tensors: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the adapter's weights cannot be read ({first_line(error)})", where=path) from None
    for name in sorted(tensors):
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ModelError(
                f"the adapter's {name!r} holds NaN or infinite values",
                where=path,
                do="the training diverged: train again with a lower learning_rate",
            )
    return tensors


def _check_places(tuned: Any, tensors: dict[str, Any], folder: Path) -> None:
    """Compare names and shapes of the file with those of the freshly made adapter."""
    from peft import get_peft_model_state_dict

    places = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(tuned).items()}
    do = "give the base model the adapter was trained on"
    lacking = sorted(set(places) - set(tensors))
    if lacking:
        raise ModelError(f"the adapter has no values for {lacking[0]!r} ({len(lacking)} in all)", where=folder, do=do)
    surplus = sorted(set(tensors) - set(places))
    if surplus:
        raise ModelError(
            f"the adapter's {surplus[0]!r} has no place in the base model ({len(surplus)} such tensors)",
            where=folder,
            do=do,
        )
    for name in sorted(places):
        if tuple(tensors[name].shape) != places[name]:
            raise ModelError(
                f"the adapter's {name!r} has the shape {tuple(tensors[name].shape)}, the base needs {places[name]}",
                where=folder,
                do=do,
            )
