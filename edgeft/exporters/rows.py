"""Is a tensor in an exported file the one it was made of? Row by row. Called by the comparison of GGUF files and of
ONNX folders with their source.

A quantized row is near the row that it was made of (its relative error is the type's), another row is not. Rows that
are elsewhere in the tensor are found again, so that an exchange is named as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.weights import Deferred

if TYPE_CHECKING:
    import torch

FAR = 0.75  # relative error of a row above which it is another row: that of unrelated rows is near 1.4
ROUNDED = {"F32": 1e-6, "F16": 1e-3, "BF16": 8e-3}  # relative error of a row by rounding alone
_TINY = 6e-8  # the smallest half-precision number: below it a value is lost, however large its relative error
_MOST = 4096  # wrong rows that are looked for elsewhere


def compared(wanted: Deferred, found: Deferred, kind: str) -> tuple[dict[str, Any] | None, float]:
    """({"rows": how many are wrong, "what"} or None, the largest relative error of the others) of two tensors of one
    shape; `kind` is the type of the values found ("F16", "Q4_K")."""
    errors = _row_errors(wanted, found)
    limit = ROUNDED.get(kind, FAR)
    rows = [row for row, error in enumerate(errors) if not error <= limit]
    good = round(max((error for error in errors if error <= limit), default=0.0), 6)
    return ({"rows": len(rows), "what": _moved(wanted, found, rows, limit)} if rows else None), good


def _row_errors(wanted: Deferred, found: Deferred) -> list[float]:
    """Per row of the first dimension: root of squared differences over squared values; of vectors one for all."""
    errors: list[float] = []
    at = 0
    for chunk in wanted.chunks():
        values = found.rows(at, at + len(chunk)).float()
        at += len(chunk)
        errors += _relative(values, chunk.float())
    return errors


def _relative(values: torch.Tensor, wanted: torch.Tensor) -> list[float]:
    if wanted.dim() == 1:
        values, wanted = values[None], wanted[None]
    values, wanted = values.reshape(len(values), -1), wanted.reshape(len(wanted), -1)
    squares, total = (values - wanted).square().sum(1), wanted.square().sum(1)
    squares = (squares - _TINY**2 * wanted.shape[1]).clamp(min=0)
    return [float(error) for error in (squares / total.clamp(min=1e-30)).sqrt()]


def _moved(wanted: Deferred, found: Deferred, rows: Sequence[int], limit: float) -> str:
    """Whether wrong rows are other rows of the same tensor, and which."""
    import torch

    if len(found.shape) < 2 or len(rows) > _MOST:
        return "has other values"
    given = torch.cat([found.rows(row, row + 1).float().reshape(1, -1) for row in rows])
    meant = torch.cat([wanted.rows(row, row + 1).float().reshape(1, -1) for row in rows])
    likeness = torch.nn.functional.normalize(given) @ torch.nn.functional.normalize(meant).T
    best = likeness.argmax(1)
    again = _relative(given, meant[best])
    if any(not error <= max(limit, ROUNDED["BF16"]) for error in again) or len(set(best.tolist())) < len(rows):
        return "has other values"
    if len(rows) == 2:
        return f"rows {rows[0]} and {rows[1]} are swapped"
    return f"its rows are swapped: {len(rows)} rows, such as {rows[0]}, hold the values of others"
