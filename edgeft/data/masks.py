"""What the model really sees of a conversation: rendered by its template, tokenized, and which tokens are trained.

A mask is exact or there is none. A template that writes earlier turns otherwise once others follow (Qwen3 takes their
thoughts out) gives one sequence for each such turn: what the model is given when it has to write it. Used by
`edgeft.data.encode`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.spans import Rendered, Renderer, Span, Turn

IGNORED = -100  # label of a token that is not trained


@dataclass(frozen=True)
class Example:
    """A sequence as token ids (no token is added to what the template writes) and labels of the same length.

    turn       the last turn in it, counted from 1; a row that gives several sequences has one for each
    roles      tokens of each role's turns, the template's own tokens around a turn counted with it
    ends       the end-of-turn ids that are trained
    in_pieces  the text was tokenized piece by piece, because tokens of the whole text cross the start of an answer
    """

    turn: int
    text: str
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    roles: dict[str, int]
    ends: tuple[int, ...]
    in_pieces: bool = False

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Masker:
    """Turns conversations into `Example`s with one tokenizer and its chat template.

    tokenizer   a fast transformers tokenizer with a chat template
    stop_ids    ids that end generation; with the tokenizer's special tokens they are what may end a turn
    """

    def __init__(self, tokenizer: Any, roles: Sequence[str] = ("assistant",), stop_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._roles = frozenset(roles)
        self.renderer = Renderer(tokenizer, stop_ids)

    def encode(self, turns: Sequence[Turn], tools: Any = None, *, only: Collection[int] | None = None) -> list[Example]:
        """The sequences of a conversation, the first turn's first; one, unless the template rewrites earlier turns.

        only   train these turns (indices) and no others, whatever their role

        `BadRow` when the template refuses it, or a mask would not be exact.
        """
        self.renderer.check_special(turns)
        wanted = [index for index, turn in enumerate(turns) if self._is_trained(index, turn, only)]
        if not wanted:
            raise BadRow("nothing to train", f"the row has no turn of {', '.join(sorted(self._roles))}")
        found: list[Example] = []
        length = len(turns)
        while wanted:
            part = list(turns[:length])
            rendered = self.renderer.place(part, tools, wanted)
            if wanted[-1] in rendered.refused:
                if length == wanted[-1] + 1:
                    raise rendered.refused[wanted[-1]]
                length = wanted[-1] + 1  # turns behind it may be what changes it
                continue
            found.append(self._example(part, rendered))
            wanted = sorted(rendered.refused)
            length = wanted[-1] + 1 if wanted else 0
        return found[::-1]

    def _is_trained(self, index: int, turn: Turn, only: Collection[int] | None) -> bool:
        if only is not None:
            return index in only
        return turn["role"] in self._roles and turn.get("train", True)

    def _example(self, turns: list[Turn], rendered: Rendered) -> Example:
        ids, offsets, in_pieces = self._tokens(rendered.text, rendered.spans)
        labels, ends = self._labels(ids, offsets, rendered.spans)
        roles = _by_role(turns, rendered.stops, offsets)
        return Example(len(turns), rendered.text, tuple(ids), tuple(labels), roles, tuple(ends), in_pieces)

    def _tokens(self, text: str, spans: list[Span]) -> tuple[list[int], list[tuple[int, int]], bool]:
        """Token ids with their character offsets, such that the ids before an answer are those of its prompt alone:
        what the model will be given when it has to answer."""
        ids, offsets = self.tokenize(text, 0)
        if all(self._starts_clean(text, ids, offsets, span.start) for span in spans):
            return ids, offsets, False
        cuts = [0, *(span.start for span in spans), len(text)]
        pieces = [self.tokenize(text[a:b], a) for a, b in itertools.pairwise(cuts) if a < b]
        joined = [token for piece, _ in pieces for token in piece]
        if self._tokenizer.decode(joined) != self._tokenizer.decode(ids):
            raise BadRow(
                "refused by template", "the row cannot be masked exactly: a token covers both prompt and answer"
            )
        return joined, [offset for _, found in pieces for offset in found], True

    def tokenize(self, text: str, shift: int = 0) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, nothing added, and the characters that each covers."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["input_ids"]), [(start + shift, stop + shift) for start, stop in found["offset_mapping"]]

    def _starts_clean(self, text: str, ids: list[int], offsets: list[tuple[int, int]], start: int) -> bool:
        count = sum(stop <= start for _, stop in offsets)
        if any(begin < start < stop for begin, stop in offsets):
            return False
        return ids[:count] == self.tokenize(text[:start], 0)[0]

    def _labels(self, ids: list[int], offsets: list[tuple[int, int]], spans: list[Span]) -> tuple[list[int], list[int]]:
        labels, ends = [IGNORED] * len(ids), []
        for span in spans:
            first = next(i for i, (start, _) in enumerate(offsets) if start >= span.start)
            end = self._end(ids, offsets, span)
            if end is None:
                raise BadRow(
                    "refused by template",
                    f"turn {span.turn + 1} cannot be masked exactly: the tokens of its end cross into other text",
                )
            labels[first : end + 1] = ids[first : end + 1]
            ends.append(ids[end])
        return labels, ends

    def _end(self, ids: list[int], offsets: list[tuple[int, int]], span: Span) -> int | None:
        """Position of the first token behind the content, within the turn, that may end a turn."""
        for position, (start, stop) in enumerate(offsets):
            if start >= span.content_stop and stop <= span.stop and ids[position] in self.renderer.ends:
                return position
        return None


def _by_role(turns: list[Turn], stops: list[int | None], offsets: list[tuple[int, int]]) -> dict[str, int]:
    """Tokens of each role; a turn whose end is unknown is counted with the one after it."""
    counts: dict[str, int] = {}
    position, begin = 0, 0
    for turn, stop in zip(turns, stops, strict=True):
        if stop is None:
            continue
        while position < len(offsets) and offsets[position][0] < stop:
            position += 1
        counts[turn["role"]] = counts.get(turn["role"], 0) + position - begin
        begin = position
    return counts
