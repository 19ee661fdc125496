"""What merges make of a text, as byte-pair encoders do it: the best-ranked neighbours first, from the left.

Used by `bpe` and `sentencepiece` to ask of each token whether its own text leads to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Ranks = Mapping[tuple[str, str], int]


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
    last = -1
    while len(pieces) > 1:
        best, at = -1, -1
        for place in range(len(pieces) - 1):
            rank = ranks.get((pieces[place], pieces[place + 1]))
            if rank is not None and (at < 0 or rank < best):
                best, at = rank, place
        if at < 0:
            break
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        last = best
    return pieces, last
