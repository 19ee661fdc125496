"""The labels of a model that ends in a classification head: a checkpoint's, or those of an adapter that brings one.

Reads JSON and the header of a safetensors file, imports nothing heavy. Used by `edgeft.models.open` and
`edgeft.runtimes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.models.identity import read_training

HEADS = ("score", "classifier")  # where transformers puts the head of a sequence classifier
REWARD = ("reward",)  # the labels of the head that `objective: reward` trains
# What may stand between the body of an encoder and its head: a checkpoint of a language model often lacks it.
_BEFORE = ("pooler", "head")
# Encoders whose positions are counted from the padding token's id on, so that the table has rows that no text reaches.
_OFFSET = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "longformer", "mpnet")
_CONFIG, _ADAPTER, _WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"


def labels_of(folder: Path) -> tuple[str, ...] | None:
    """The labels in the order of the head's rows (one: the value of a reward); None when there is no such head.

    Of an adapter those that training.json keeps; of one by another tool, which keeps no names, `LABEL_0`, `LABEL_1`, …
    as transformers calls them. Of a checkpoint those of its config.json.
    """
    known = (read_training(folder) or {}).get("labels")
    if known:
        return tuple(str(label) for label in known)
    if (folder / _ADAPTER).is_file():
        if _json(folder / _ADAPTER).get("task_type") != "SEQ_CLS":
            return None
        return tuple(f"LABEL_{number}" for number in range(_rows_of_head(folder / _WEIGHTS)))
    if not (folder / _CONFIG).is_file():
        return None
    config = _json(folder / _CONFIG)
    if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        return None
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves its default of two out
    return tuple(str(names[key]) for key in sorted(names, key=int))


def head_module(name: str) -> str | None:
    """The module of the head that a weight belongs to ("bert.pooler" of "bert.pooler.dense.weight", "classifier" of
    "classifier.out_proj.bias"); None for a weight of the body."""
    parts = name.split(".")
    for at, part in enumerate(parts[:2]):
        if part in (*HEADS, *_BEFORE):
            return ".".join(parts[: at + 1])
    return None


def longest(config: Mapping[str, Any]) -> int | None:
    """Tokens that a text may have at most, by a model's config; None when it does not say."""
    most = config.get("max_position_embeddings")
    if not isinstance(most, int) or most < 1:
        return None
    return most - int(config.get("pad_token_id") or 0) - 1 if config.get("model_type") in _OFFSET else most


def _rows_of_head(path: Path) -> int:
    """How many labels the head in an adapter's file has; RoBERTa's head has two layers, `dense` and `out_proj`."""
    for name, shape in _shapes(path).items():
        module, _, kind = name.rpartition(".")
        module = module.removesuffix(".modules_to_save").removesuffix(".out_proj")
        if kind == "weight" and module.rpartition(".")[2] in HEADS and shape:
            return int(shape[0])
    raise ModelError("the adapter says that it is a classifier and holds no head", where=path)


def _shapes(path: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from a safetensors header alone."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ModelError(f"the adapter's weights cannot be read ({error})", where=path) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read ({error})", where=path) from None
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} is not an object", where=path)
    return found
