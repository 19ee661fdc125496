"""How far a file's next-token distributions are from the trained model's, on the same token ids. Called by `fidelity`.

Definitions are those of llama.cpp's `perplexity --kl-divergence` (tools/perplexity): KL(trained || file) in nats per
position, its mean, maximum and percentiles (linear interpolation), share of positions with the same most likely token,
and the ratio of perplexities of the text itself. Computed in float64 from float32 logits, one row in memory at a time.
Intervals (95 %) are over rows: the positions of one row are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.evals import bootstrap, statistics
from edgeft.evals.encoded import Encoded
from edgeft.evals.estimate import Estimate
from edgeft.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK_VALUES = 2_000_000  # float64 values of one block of distributions: 16 MB, a few of them alive at a time
DIGITS = 9


@dataclass(frozen=True)
class Positions:
    """What two runtimes say at each position of one row that has a next token: float64[T] KL and negative log
    likelihoods (nats) of that token, bool[T] same most likely token. `finite` is False when a logit is NaN or
    infinite; then the arrays hold nothing."""

    kl: NDArray[np.float64]
    reference_nll: NDArray[np.float64]
    candidate_nll: NDArray[np.float64]
    same_top: NDArray[np.bool_]
    finite: bool = True


@dataclass
class Divergence:
    """Positions of all rows, and which of them predict the answer's tokens."""

    ids: list[str] = field(default_factory=list)
    rows: list[Positions] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)  # [start, end) of the answer's positions, per row
    not_finite: list[str] = field(default_factory=list)

    def add(self, name: str, positions: Positions, start: int, end: int) -> None:
        if not positions.finite:
            self.not_finite.append(name)
            return
        self.ids.append(name)
        self.rows.append(positions)
        self.answers.append((start, end))

    def as_json(self) -> dict[str, Any]:
        """{"rows", "not_finite": [ids], "all": figures, "answer": figures, "worst": the row of the largest KL}."""
        found: dict[str, Any] = {"rows": len(self.rows), "not_finite": self.not_finite, "all": None, "answer": None}
        if not self.rows:
            return found
        whole = [(row, slice(None)) for row in self.rows]
        answers = [(row, slice(start, end)) for row, (start, end) in zip(self.rows, self.answers, strict=True)]
        worst = max(range(len(self.rows)), key=lambda i: float(self.rows[i].kl.max()))
        return found | {"all": _figures(whole), "answer": _figures(answers), "worst": self.ids[worst]}


class Logits(Protocol):
    """What is compared: a runtime, or what one said (`edgeft.evals.recorded`)."""

    @property
    def vocab_size(self) -> int: ...

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]: ...


def compare(
    reference: Logits,
    candidate: Logits,
    rows: Sequence[tuple[str, Encoded]],
    listen: Listener = silent,
) -> Divergence:
    """Both runtimes on the reference's token ids, row by row; columns beyond the smaller vocabulary (padding that no
    token uses) are left out of both."""
    columns = min(reference.vocab_size, candidate.vocab_size)
    found = Divergence()
    ordered = sorted(rows, key=lambda row: len(row[1].ids), reverse=True)
    ids = [item.ids for _, item in ordered]
    both = zip(reference.logits_batch(ids), candidate.logits_batch(ids), strict=True)
    for number, ((name, item), (first, second)) in enumerate(zip(ordered, both, strict=True), 1):
        found.add(name, compare_logits(first, second, item.ids, columns), item.start - 1, item.end - 1)
        listen(Progress(number, len(ordered), "row", "logits"))
    return found


def compare_logits(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], ids: Sequence[int], columns: int
) -> Positions:
    """float32[T, V] logits of two runtimes over the same T ids, on the first `columns` of both."""
    import numpy as np
    from scipy.special import log_softmax

    count = len(ids) - 1
    targets = np.asarray(ids[1:])
    kl, first_nll, second_nll = (np.empty(count, dtype=np.float64) for _ in range(3))
    same = np.empty(count, dtype=np.bool_)
    if int(targets.max()) >= columns:
        raise ValueError(f"token id {int(targets.max())} is outside the {columns} columns that both runtimes have")
    step = max(1, _CHUNK_VALUES // columns)
    for begin in range(0, count, step):
        end = min(begin + step, count)
        first, second = reference[begin:end, :columns], candidate[begin:end, :columns]
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            return Positions(kl, first_nll, second_nll, same, finite=False)
        log_p, log_q = (log_softmax(block.astype(np.float64), axis=1) for block in (first, second))
        kl[begin:end] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
        at = np.arange(end - begin), targets[begin:end]
        first_nll[begin:end], second_nll[begin:end] = -log_p[at], -log_q[at]
        same[begin:end] = first.argmax(axis=1) == second.argmax(axis=1)
    return Positions(kl, first_nll, second_nll, same)


def _figures(parts: Sequence[tuple[Positions, slice]]) -> dict[str, Any]:
    import numpy as np

    rows = {
        name: [np.asarray(getattr(row, name)[chosen], dtype=np.float64) for row, chosen in parts]
        for name in ("kl", "reference_nll", "candidate_nll", "same_top")
    }
    rows = {name: [row for row in found if len(row)] for name, found in rows.items()}
    if not rows["kl"]:
        return {"positions": 0}
    kl, first, second, same = (np.concatenate(found) for found in rows.values())
    rise = float(second.mean() - first.mean())
    return {
        "positions": len(kl),
        "top1_agreement": _rounded(same.mean()),
        "mean_kl": _rounded(kl.mean()),
        "median_kl": _rounded(np.median(kl)),
        "p99_kl": _rounded(np.percentile(kl, 99)),
        "p999_kl": _rounded(np.percentile(kl, 99.9)),
        "max_kl": _rounded(kl.max()),
        "reference_perplexity": _rounded(_exp(first.mean())),
        "perplexity": _rounded(_exp(second.mean())),
        "perplexity_ratio": _rounded(_exp(rise)),
        "intervals": _intervals(rows),
    }


def _intervals(rows: dict[str, list[NDArray[np.float64]]]) -> dict[str, list[float] | None]:
    """[low, high] of the figures that gates may name; None when there is one row."""
    import numpy as np

    tokens = [float(len(row)) for row in rows["kl"]]
    sums = {name: [float(row.sum()) for row in found] for name, found in rows.items()}
    rise = statistics.paired_ratio_difference((sums["reference_nll"], tokens), (sums["candidate_nll"], tokens))
    found = {
        "mean_kl": _pair(statistics.ratio(sums["kl"], tokens)),
        "top1_agreement": _pair(statistics.ratio(sums["same_top"], tokens)),
        "perplexity_ratio": _pair(rise.mapped(_exp)),
        "p999_kl": bootstrap.resampled_rows(rows["kl"], lambda values: float(np.percentile(values, 99.9))),
    }
    return {name: None if pair is None else [_rounded(bound) for bound in pair] for name, pair in found.items()}


def _pair(found: Estimate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _exp(value: float) -> float:
    return math.exp(min(float(value), 700.0))  # e^700 is near the end of float64; JSON has no infinity


def _rounded(value: Any) -> float:
    return round(float(value), DIGITS)
