"""Figures of a dataset: rows, tokens, lengths, what a sequence length does to it. Written to stats.json, shown by the
CLI and the report."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.data.encode import Encoded

_BINS = 12
_EXAMPLES = 5


class Figures:
    """What one split adds up to, row by row."""

    def __init__(self) -> None:
        self.lengths = array("I")  # of what is kept
        self._dropped = array("I")
        self._long: list[str] = []
        self._cut = self._cut_tokens = self._trained = self._pieces = self._repeated = 0
        self.sources = 0  # rows of the files
        self._roles: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self.ends: set[int] = set()

    def add(self, encoded: Encoded) -> None:
        """A sequence that is kept."""
        self.lengths.append(encoded.length)
        self._trained += encoded.trained
        self._roles.update(encoded.roles)
        self._pieces += encoded.in_pieces
        self.ends.update(encoded.ends)
        if encoded.label is not None:
            self._labels[encoded.label] += 1

    def repeat(self, encoded: Encoded) -> None:
        """A sequence that counts once more."""
        self._repeated += 1
        self.add(encoded)

    def leave_out(self, encoded: Encoded) -> None:
        """One that is too long."""
        self._dropped.append(encoded.length)
        self._name(encoded)

    def cut(self, encoded: Encoded, length: int) -> None:
        """One that is too long and was cut to `length`."""
        self._cut += 1
        self._cut_tokens += encoded.length - length
        self._name(encoded)

    def _name(self, encoded: Encoded) -> None:
        if len(self._long) < _EXAMPLES:
            self._long.append(encoded.id)

    @property
    def shortest_dropped(self) -> int:
        return min(self._dropped, default=0)

    def table(self) -> dict[str, Any]:
        """The figures of stats.json: `rows` are the sequences that are kept, `sources` the rows they come from."""
        found: dict[str, Any] = {
            "rows": len(self.lengths),
            "sources": self.sources,
            "repeated": self._repeated,
            "tokens": sum(self.lengths),
            "trained_tokens": self._trained,
            "tokens_by_role": dict(sorted(self._roles.items())),
            "length": length_figures([*self.lengths, *self._dropped]),
            "too_long": {"rows": len(self._dropped), "examples": self._long if len(self._dropped) else []},
            "truncated": {
                "rows": self._cut,
                "tokens": self._cut_tokens,
                "examples": self._long if self._cut else [],
            },
            "tokenized_in_pieces": self._pieces,
        }
        return found | ({"labels": dict(sorted(self._labels.items()))} if self._labels else {})


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


def packing_figures(lengths: Sequence[int], sequence_len: int) -> dict[str, Any]:
    """What packing does: how many sequences of `sequence_len` the rows fill, and how full they are. `padded` is the
    share of tokens that would be padding in batches of eight random rows."""
    import random

    from edgeft.data.packing import pack

    mixed = list(lengths)
    random.Random(0).shuffle(mixed)
    bins = pack(mixed, sequence_len, as_given=True)
    filled = sum(lengths) / (len(bins) * sequence_len) if bins else 0.0
    batches = [mixed[at : at + 8] for at in range(0, len(mixed), 8)]
    room = sum(max(batch) * len(batch) for batch in batches)
    return {
        "sequences": len(bins),
        "filled": round(filled, 4),
        "padded": round(1 - sum(lengths) / room, 4) if room else 0.0,
    }


def totals(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The few figures of stats.json that an artifact keeps as facts."""
    return {
        "rows": {split: figures["rows"] for split, figures in splits.items()},
        "too_long": {split: figures["too_long"]["rows"] for split, figures in splits.items()},
        "tokens": splits["train"]["tokens"],
        "trained_tokens": splits["train"]["trained_tokens"],
    }
