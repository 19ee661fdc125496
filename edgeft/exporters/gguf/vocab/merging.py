"""What merges make of a text, as byte-pair encoders do it: the best-ranked neighbours first, from the left.

Used by `bpe` and `sentencepiece` to ask of each token whether its own text leads to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

Ranks = Mapping[tuple[str, str], int]
_NEVER = 1 << 62


def ranks_of(merges: Iterable[Any]) -> dict[tuple[str, str], int]:
    """(left, right) -> rank, of tokenizer.json's merges: "left right" or [left, right]. Of a pair that stands twice the
    later counts, as in the tokenizers library."""
    found: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found[left, right] = rank
    return found


def assemble(text: str, ranks: Ranks) -> tuple[list[str], int]:
    """The pieces that are left of a text when nothing can be merged any more, and the rank of the last merge (-1 for
    none)."""
    pieces = list(text)
    around = [ranks.get(pair, _NEVER) for pair in pairwise(pieces)]  # the rank of each piece with the next one
    last = -1
    while around and (best := min(around)) < _NEVER:
        at = around.index(best)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        del around[at]
        if at:
            around[at - 1] = ranks.get((pieces[at - 1], pieces[at]), _NEVER)
        if at < len(around):
            around[at] = ranks.get((pieces[at], pieces[at + 1]), _NEVER)
        last = best
    return pieces, last
