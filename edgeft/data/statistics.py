"""Figures of a dataset: rows, tokens, lengths, what a sequence length does to it. Written to stats.json, shown by the
CLI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.data.masks import Example

_BINS = 12
_EXAMPLES = 5


def percentile(ordered: Sequence[int], share: float) -> int:
    """The value that `share` of the ascending `ordered` do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def length_figures(lengths: Sequence[int]) -> dict[str, Any]:
    """Tokens per row: extremes, mean, percentiles and a histogram of up to 12 bins of equal width."""
    if not lengths:
        return {}
    ordered = sorted(lengths)
    width = max(1, math.ceil((ordered[-1] + 1) / _BINS))
    bins = [0] * (ordered[-1] // width + 1)
    for length in ordered:
        bins[length // width] += 1
    return {
        "min": ordered[0],
        "mean": round(sum(ordered) / len(ordered), 2),
        "p50": percentile(ordered, 0.5),
        "p90": percentile(ordered, 0.9),
        "p99": percentile(ordered, 0.99),
        "max": ordered[-1],
        "histogram": [{"from": i * width, "below": (i + 1) * width, "rows": rows} for i, rows in enumerate(bins)],
    }


def split_figures(kept: Sequence[Example], dropped: Sequence[Example]) -> dict[str, Any]:
    """Figures of one split: `kept` rows are trained or evaluated on, `dropped` ones are longer than the sequence
    length."""
    roles: dict[str, int] = {}
    for example in kept:
        for role, count in example.roles.items():
            roles[role] = roles.get(role, 0) + count
    return {
        "rows": len(kept),
        "tokens": sum(len(example.ids) for example in kept),
        "trained_tokens": sum(example.trained for example in kept),
        "tokens_by_role": dict(sorted(roles.items())),
        "length": length_figures([len(example.ids) for example in [*kept, *dropped]]),
        "too_long": {"rows": len(dropped), "examples": [example.row.id for example in dropped[:_EXAMPLES]]},
        "tokenized_in_pieces": sum(example.in_pieces for example in kept),
    }


def packing_figures(lengths: Sequence[int], sequence_len: int) -> dict[str, Any]:
    """What packing does: how many sequences of `sequence_len` the rows fill, and how full they are."""
    from edgeft.data.packing import pack

    bins = pack(lengths, sequence_len)
    filled = sum(lengths) / (len(bins) * sequence_len) if bins else 0.0
    return {"sequences": len(bins), "filled": round(filled, 4)}


def totals(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The few figures of stats.json that an artifact keeps as facts."""
    return {
        "rows": {split: figures["rows"] for split, figures in splits.items()},
        "too_long": {split: figures["too_long"]["rows"] for split, figures in splits.items()},
        "tokens": splits["train"]["tokens"],
        "trained_tokens": splits["train"]["trained_tokens"],
    }
