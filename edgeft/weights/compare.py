"""Is a file what it was made of? Its tensors against the weights they should hold, streamed. Called by
`edgeft merge --check FILE.gguf`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeft.errors import ModelError
from edgeft.progress import Listener, Progress, silent
from edgeft.weights.deferred import Deferred, Weights
from edgeft.weights.dtypes import torch_dtype
from edgeft.weights.gguf_file import GgufStored

FAR = 0.5  # relative error above which values have nothing to do with a quantization: 2 bits are near 0.3
_FLOATS = ("F32", "F16", "BF16")


@dataclass
class OfType:
    """Tensors of one type: how many, how many of them equal bit for bit once rounded, and the largest relative error
    (root of squared differences over squared values) with its tensor."""

    tensors: int = 0
    equal: int = 0
    largest: float = 0.0
    worst: str | None = None


@dataclass
class Compared:
    types: dict[str, OfType] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # float tensors that differ, and quantized ones that are far off

    def as_json(self) -> dict[str, Any]:
        return {
            "same": not self.wrong,
            "wrong": self.wrong,
            "types": {name: vars(of) for name, of in self.types.items()},
        }


def compare(wanted: Weights, found: Mapping[str, GgufStored], listen: Listener = silent) -> Compared:
    """Every tensor of a GGUF file against the values it was made of, by the same names.

    Float tensors must be equal once the wanted values are rounded to their dtype; of quantized ones the relative error
    is measured. Raises `ModelError` when names or shapes differ.
    """
    odd = sorted(set(wanted) ^ set(found))
    if odd:
        raise ModelError(f"the tensor {odd[0]!r} is {'not in the file' if odd[0] in wanted else 'only in the file'}")
    result = Compared()
    for number, (name, tensor) in enumerate(found.items(), 1):
        if wanted[name].shape != tensor.shape:
            raise ModelError(f"{name!r} is {tensor.shape} in the file, not {wanted[name].shape}", where=tensor.path)
        error, equal = _difference(wanted[name], tensor)
        of = result.types.setdefault(tensor.type, OfType())
        of.tensors += 1
        of.equal += equal
        if not error <= of.largest:
            of.largest, of.worst = error, name
        if not (equal if tensor.type in _FLOATS else error < FAR):
            result.wrong.append(name)
        listen(Progress(number, len(found), "weight", "comparing", {"tensor": name}))
    return result


def _difference(wanted: Deferred, found: GgufStored) -> tuple[float, bool]:
    """(relative error, equal once rounded)."""
    import torch

    squares = total = 0.0
    at, equal = 0, True
    for chunk in wanted.chunks():
        values = found.rows(at, at + len(chunk))
        rounded = chunk.to(torch_dtype(found.dtype))
        equal = equal and torch.equal(rounded, values)
        squares += float((values.double() - chunk.double()).square().sum())
        total += float(chunk.double().square().sum())
        at += len(chunk)
    return (math.sqrt(squares / total) if total else math.sqrt(squares)), equal
