"""Can a merge be undone? The adapter's change is taken from the merged weights again and the rest compared with the
base, weight by weight, row chunk by row chunk. Called by `edgeft merge --check`.

A merge that adds in float32 and rounds once to 16 bits leaves at most half a unit in the last place (of the merged
value) between the restored base and the real one. In a float32 checkpoint sum and difference round too, and of DoRA the
product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.progress import Listener, Progress, silent
from edgeft.weights.deferred import Deferred
from edgeft.weights.merged import Opened, open_parts, open_weights

if TYPE_CHECKING:
    import torch

LIMIT, LIMIT_F32 = 1.0, 4.0
# dtype -> bits of the significand, exponent of the smallest step there is.
_PRECISION = {"F32": (24, -149), "BF16": (8, -133), "F16": (11, -24)}


@dataclass(frozen=True)
class Restored:
    """What was found. `largest`: units in the last place, of `worst`; `unequal`: weights that the adapter does not
    change by adding (untouched or saved whole) and that are not bit for bit what they must be."""

    changed: int
    same: int
    largest: float
    worst: str | None
    unequal: tuple[str, ...]
    limit: float = LIMIT

    @property
    def within_rounding(self) -> bool:
        return self.largest <= self.limit and not self.unequal

    def as_json(self) -> dict[str, Any]:
        return {
            "restored": self.within_rounding,
            "changed": self.changed,
            "same": self.same,
            "largest_ulp": round(self.largest, 4),
            "worst": self.worst,
            "limit_ulp": self.limit,
            "unequal": list(self.unequal),
        }


def unmerged(
    base: Path, adapter: Path, merged: Path, *, merge_base: str = "dequantized", listen: Listener = silent
) -> Restored:
    """Take the adapter of `adapter` out of the checkpoint `merged` and compare with the base it was folded into.

    Raises `ModelError` when the three do not fit together.
    """
    parts, found = open_parts(base, adapter, merge_base=merge_base), open_weights(merged)
    _check_names(parts, found, merged)
    largest, worst, unequal, changed = 0.0, None, [], 0
    for number, name in enumerate(parts.tensors, 1):
        if name in parts.adapter.loras:
            changed += 1
            distance = _distance(parts, name, found[name])
            if not distance <= largest:
                largest, worst = distance, name
        elif not _equal(parts.merged(name), found[name]):
            unequal.append(name)
        listen(Progress(number, len(parts.tensors), "weight", "unmerging", {"tensor": name}))
    wide = any(parts.tensors[name].dtype == "F32" for name in parts.adapter.loras)
    same = len(parts.tensors) - changed - len(unequal)
    return Restored(changed, same, largest, worst, tuple(unequal), LIMIT_F32 if wide else LIMIT)


def _check_names(parts: Opened, found: Any, merged: Path) -> None:
    lacking = sorted(set(parts.tensors) ^ set(found))
    if lacking:
        whose = "has no" if lacking[0] in parts.tensors else "has a surplus"
        raise ModelError(
            f"the merged model {whose} weight {lacking[0]!r}", where=merged, do="give a merge of this base"
        )
    for name, tensor in parts.tensors.items():
        if (tensor.shape, tensor.dtype) != (found[name].shape, found[name].dtype):
            raise ModelError(
                f"the merged {name!r} is {found[name].dtype} {found[name].shape}, the base's {tensor.dtype} "
                f"{tensor.shape}",
                where=merged,
                do="give a merge of this base",
            )


def _distance(parts: Opened, name: str, merged: Deferred) -> float:
    """The largest difference of the restored weight, in units in the last place of the larger of merged and base."""
    import torch

    largest = 0.0
    for base, restored, values in parts.folded(name).undone(merged):
        step = _steps(torch.maximum(values.abs(), base.abs()), merged.dtype)
        largest = max(largest, float(((restored - base).abs() / step).max())) if base.numel() else largest
    return largest


def _steps(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """float64: from a value to the next one that `dtype` has."""
    import torch

    bits, smallest = _PRECISION[dtype]
    exponents = torch.frexp(values.double()).exponent
    return torch.ldexp(torch.ones_like(values, dtype=torch.float64), (exponents - bits).clamp(min=smallest))


def _equal(wanted: Deferred, found: Deferred) -> bool:
    import torch

    at = 0
    for chunk in wanted.chunks():
        if not torch.equal(chunk, found.rows(at, at + len(chunk)) if wanted.shape else found.read()):
            return False
        at += len(chunk) if wanted.shape else 1
    return True
