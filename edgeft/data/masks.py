"""What the model really sees of a conversation: rendered by its template, tokenized, and which tokens are trained.

A trained turn is what the model has to write itself: from behind the generation prompt up to and with the end-of-turn
token. Its place is derived by rendering the conversation up to and with that turn; whatever cannot be placed exactly
is refused, so a mask is exact or there is none. Used by `edgeft.data.prepare`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.rows import Row
from edgeft.template_date import strftime_now

IGNORED = -100  # label of a token that is not trained

Turn = dict[str, str]


@dataclass(frozen=True)
class Span:
    """A trained turn in the rendered text: characters `start` to `stop`; the end-of-turn token lies within, behind
    `content_stop`."""

    turn: int
    start: int
    content_stop: int
    stop: int


@dataclass(frozen=True)
class Example:
    """A row as token ids (no token is added to what the template writes) and labels of the same length.

    roles      tokens of each role's turns, the template's own tokens around a turn counted with it
    ends       the end-of-turn ids that are trained
    in_pieces  the text was tokenized piece by piece, because tokens of the whole text cross the start of an answer
    """

    row: Row
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
    """Turns rows into `Example`s with one tokenizer and its chat template.

    tokenizer   a fast transformers tokenizer with a chat template
    stop_ids    ids that end generation; with the tokenizer's special tokens they are what may end a turn
    """

    def __init__(self, tokenizer: Any, roles: Sequence[str] = ("assistant",), stop_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._roles = frozenset(roles)
        special = {token: entry.content for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
        self._ends = frozenset(special) | frozenset(stop_ids)
        self._special = _any_of(special.values())
        self._marks = _any_of([*special.values(), *(tokenizer.decode([token]) for token in stop_ids)])

    def encode(self, row: Row) -> Example:
        """The row's ids and labels; `BadRow` when the template refuses it or the mask would not be exact."""
        turns = list(row.messages)
        self._check_special(turns)
        text = self._render(turns)
        stops = self._stops(turns, text)
        spans = [self._span(turns, text, stops, i) for i, turn in enumerate(turns) if turn["role"] in self._roles]
        if not spans:
            raise BadRow("nothing to train", f"the row has no turn of {', '.join(sorted(self._roles))}")
        ids, offsets, in_pieces = self._tokens(text, spans)
        labels, ends = self._labels(text, ids, offsets, spans)
        return Example(row, text, tuple(ids), tuple(labels), _by_role(turns, stops, offsets), tuple(ends), in_pieces)

    def _check_special(self, turns: list[Turn]) -> None:
        for number, turn in enumerate(turns, 1):
            found = self._special.search(turn["content"])
            if found:
                raise BadRow(
                    "special token", f"turn {number} ({turn['role']}) holds the special token {found.group()!r}"
                )

    def _render(self, turns: list[Turn], *, prompt: bool = False) -> str:
        import jinja2

        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=prompt, strftime_now=strftime_now
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise BadRow("refused by template", f"the chat template refuses the row: {error}") from None
        return text

    def _stops(self, turns: list[Turn], text: str) -> list[int | None]:
        """Where each turn ends in the text; None where the template does not render that beginning by itself (some
        refuse a system turn alone)."""
        stops: list[int | None] = []
        for count in range(1, len(turns)):
            try:
                part = self._render(turns[:count])
            except BadRow:
                stops.append(None)
                continue
            stops.append(len(part) if text.startswith(part) else None)
        return [*stops, len(text)]

    def _span(self, turns: list[Turn], text: str, stops: list[int | None], index: int) -> Span:
        stop, number = stops[index], index + 1
        if stop is None:
            raise BadRow(
                "refused by template",
                f"turn {number} cannot be masked exactly: the template writes it otherwise once other turns follow",
            )
        content = turns[index]["content"].strip()
        if turns[index]["role"] == "assistant":
            prompt = self._render(turns[:index], prompt=True)
            start = len(prompt)
            fits = text.startswith(prompt) and start < stop
        else:
            before = stops[index - 1] if index else 0
            start, fits = before or 0, before is not None
        if not fits:
            raise BadRow(
                "refused by template",
                f"turn {number} cannot be masked exactly: the text before it is not the prompt that the template gives",
            )
        at = self._place(text, content, start, stop)
        if at < 0:
            why = "writes no end-of-turn token behind it" if content in text[start:stop] else "changes what it says"
            raise BadRow("refused by template", f"turn {number} cannot be masked exactly: the template {why}")
        return Span(index, start if turns[index]["role"] == "assistant" else at, at + len(content), stop)

    def _place(self, text: str, content: str, start: int, stop: int) -> int:
        """Where the content begins in text[start:stop], with a token behind it that may end the turn; -1 if nowhere.

        Contents hold no special tokens, so theirs is a place between two of them, not one inside ("<" in "<|im_end|>").
        """
        place, begin = -1, start
        for mark in self._marks.finditer(text, start, stop):
            found = text.rfind(content, begin, mark.start())
            place, begin = max(place, found), mark.end()
        return place

    def _tokens(self, text: str, spans: list[Span]) -> tuple[list[int], list[tuple[int, int]], bool]:
        """Token ids with their character offsets, such that the ids before an answer are those of its prompt alone:
        what the model will be given when it has to answer."""
        ids, offsets = self._tokenize(text, 0)
        if all(self._starts_clean(text, ids, offsets, span.start) for span in spans):
            return ids, offsets, False
        cuts = [0, *(span.start for span in spans), len(text)]
        pieces = [self._tokenize(text[a:b], a) for a, b in itertools.pairwise(cuts) if a < b]
        joined = [token for piece, _ in pieces for token in piece]
        if self._tokenizer.decode(joined) != self._tokenizer.decode(ids):
            raise BadRow(
                "refused by template", "the row cannot be masked exactly: a token covers both prompt and answer"
            )
        return joined, [offset for _, found in pieces for offset in found], True

    def _tokenize(self, text: str, shift: int) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["input_ids"]), [(start + shift, stop + shift) for start, stop in found["offset_mapping"]]

    def _starts_clean(self, text: str, ids: list[int], offsets: list[tuple[int, int]], start: int) -> bool:
        count = sum(stop <= start for _, stop in offsets)
        if any(begin < start < stop for begin, stop in offsets):
            return False
        return ids[:count] == self._tokenize(text[:start], 0)[0]

    def _labels(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]], spans: list[Span]
    ) -> tuple[list[int], list[int]]:
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
            if start >= span.content_stop and stop <= span.stop and ids[position] in self._ends:
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


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the texts, the longest first; with none, it finds nothing."""
    written = sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, written)) if written else r"(?!)")
