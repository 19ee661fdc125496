"""Where in a rendered conversation each trained turn stands, exactly, or why that cannot be said. Used by
`edgeft.data.masks`.

A trained turn is what the model has to write itself: from behind the generation prompt up to and with the end-of-turn
token. Its place is derived by rendering the conversation up to that turn (the prompt that the model is given) and up to
and with it, not from any knowledge of the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.data.faults import BadRow
from edgeft.template_date import strftime_now

Turn = dict[str, Any]
_THOUGHT = re.compile(r"</?think>")  # marks inside a content that templates take apart


@dataclass(frozen=True)
class Span:
    """A trained turn in the rendered text: characters `start` to `stop`; the end-of-turn token lies within, behind
    `content_stop`."""

    turn: int
    start: int
    content_stop: int
    stop: int


@dataclass(frozen=True)
class Rendered:
    """A conversation's text, the spans that could be placed, and why the others could not.

    stops   where each turn ends in the text; None where the template does not render that beginning by itself
    """

    text: str
    spans: list[Span]
    stops: list[int | None]
    refused: dict[int, BadRow]


class Renderer:
    """Renders conversations with one tokenizer's chat template and places turns in them.

    stop_ids    ids that end generation; with the tokenizer's special tokens they are what may end a turn
    """

    def __init__(self, tokenizer: Any, stop_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        special = {token: entry.content for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
        self.ends = frozenset(special) | frozenset(stop_ids)
        self._special = _any_of(special.values())
        self._marks = _any_of([*special.values(), *(tokenizer.decode([token]) for token in stop_ids)])
        self._turn_ends: re.Pattern[str] | None = None
        self._stop_texts = [tokenizer.decode([token]) for token in stop_ids]

    def check_special(self, turns: Sequence[Turn]) -> None:
        """`BadRow` when a turn's words hold a special token."""
        for number, turn in enumerate(turns, 1):
            said = [turn["content"], turn.get("reasoning_content", "")]
            if "tool_calls" in turn:
                said.append(json.dumps(turn["tool_calls"], ensure_ascii=False))
            found = next((match for match in map(self._special.search, said) if match), None)
            if found:
                raise BadRow(
                    "special token", f"turn {number} ({turn['role']}) holds the special token {found.group()!r}"
                )

    def render(self, turns: Sequence[Turn], tools: Any = None, *, prompt: bool = False) -> str:
        """The text of a conversation; `BadRow` when the template refuses it."""
        import jinja2

        shown = [{key: value for key, value in turn.items() if key != "train"} for turn in turns]
        try:
            text: str = self._tokenizer.apply_chat_template(
                shown, tools=tools, tokenize=False, add_generation_prompt=prompt, strftime_now=strftime_now
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise BadRow("refused by template", f"the chat template refuses the row: {error}") from None
        return text

    def place(self, turns: Sequence[Turn], tools: Any, wanted: Iterable[int]) -> Rendered:
        """Render a conversation and find the turns `wanted` (indices) in it."""
        text = self.render(turns, tools)
        stops = self._stops(turns, tools, text)
        spans: list[Span] = []
        refused: dict[int, BadRow] = {}
        for index in wanted:
            try:
                spans.append(self._span(turns, tools, text, stops, index))
            except BadRow as error:
                refused[index] = error
        if spans:
            self._check_written(turns, tools, text)
        return Rendered(text, spans, stops, refused)

    def _stops(self, turns: Sequence[Turn], tools: Any, text: str) -> list[int | None]:
        """Where each turn ends: up to where the text is that of the conversation that ends with this turn."""
        stops: list[int | None] = []
        for count in range(1, len(turns)):
            try:
                part = self.render(turns[:count], tools)
            except BadRow:  # some templates refuse a system turn alone
                stops.append(None)
                continue
            stops.append(len(part) if text.startswith(part) else self._shared(part, text))
        return [*stops, len(text)]

    def _shared(self, part: str, text: str) -> int:
        """How far both agree, no special token cut (the conversation's end may be marked by one of its own)."""
        ends = (at for at, (one, other) in enumerate(zip(part, text, strict=False)) if one != other)
        stop = next(ends, min(len(part), len(text)))
        for mark in self._marks.finditer(text, max(0, stop - 64)):
            if mark.start() >= stop:
                break
            if mark.end() > stop:
                return mark.start()
        return stop

    def _span(self, turns: Sequence[Turn], tools: Any, text: str, stops: Sequence[int | None], index: int) -> Span:
        stop, turn = stops[index], turns[index]
        if stop is None:
            raise _inexact(index, "the template writes it otherwise once other turns follow")
        if turn["role"] == "assistant":
            prompt = self.render(turns[:index], tools, prompt=True)
            start = len(prompt)
            fits = text.startswith(prompt) and start < stop
        else:
            before = stops[index - 1] if index else 0
            start, fits = before or 0, before is not None
        if not fits:
            raise _inexact(index, "the text before it is not the prompt that the template gives")
        if turn["role"] == "assistant" and (
            "tool_calls" in turn or "reasoning_content" in turn or _THOUGHT.search(turn["content"])
        ):
            return Span(index, start, self._parts_end(turn, text, start, stop, index), stop)
        content = turn["content"].strip()
        at = self._found(text, content, start, stop)
        if at < 0:
            raise _inexact(index, self._why(content, text[start:stop]))
        return Span(index, start if turn["role"] == "assistant" else at, at + len(content), stop)

    def _found(self, text: str, content: str, start: int, stop: int) -> int:
        """Where the content begins in text[start:stop], with a token behind it that may end the turn; -1 if nowhere.

        Contents hold no special tokens, so theirs is a place between two of them, not one inside ("<" in "<|im_end|>").
        """
        place, begin = -1, start
        for mark in self._marks.finditer(text, start, stop):
            found = text.rfind(content, begin, mark.start())
            place, begin = max(place, found), mark.end()
        return place

    @staticmethod
    def _why(content: str, region: str) -> str:
        return (
            f"the template {'writes no end-of-turn token behind it' if content in region else 'changes what it says'}"
        )

    def _parts_end(self, turn: Turn, text: str, start: int, stop: int, index: int) -> int:
        """Where the words of a turn with thoughts or tool calls end: every part must be there, in order, and behind the
        last of them the token that ends turns in this template."""
        thought, content = turn.get("reasoning_content", ""), turn["content"]
        parts = [part.strip() for part in [thought, *_THOUGHT.split(content)] if part.strip()]
        at = start
        for part in parts:
            found = text.find(part, at, stop)
            if found < 0:
                raise _inexact(index, "the template changes what it says")
            at = found + len(part)
        for call in turn.get("tool_calls", ()):
            if text.find(call["function"]["name"], start, stop) < 0:
                raise _inexact(index, "the template does not write its tool calls")
            for value in _leaves(call["function"]["arguments"]):
                if text.find(value, start, stop) < 0:
                    raise _inexact(index, "the template does not write the arguments of its tool calls")
        last = [mark.start() for mark in self._ends_of_turns().finditer(text, at, stop)]
        if not last:
            raise _inexact(index, "the template writes no end-of-turn token behind it")
        return last[0] if "tool_calls" not in turn else last[-1]

    def _ends_of_turns(self) -> re.Pattern[str]:
        """The tokens that end an assistant's turn: that of a plain answer, and those that end generation."""
        if self._turn_ends is None:
            probe, answer = [{"role": "user", "content": "probe"}], {"role": "assistant", "content": "answered"}
            text = self.render([*probe, answer])
            behind = self._marks.search(text, text.rfind("answered"))
            self._turn_ends = _any_of([*([behind.group()] if behind else []), *self._stop_texts])
        return self._turn_ends

    def _check_written(self, turns: Sequence[Turn], tools: Any, text: str) -> None:
        """`BadRow` when the template leaves out what the model is to know: nothing of a row is lost in silence."""
        for number, turn in enumerate(turns, 1):
            content = turn["content"].strip()
            if turn["role"] != "assistant" and content not in text and json.dumps(content)[1:-1] not in text:
                raise BadRow(
                    "refused by template", f"the chat template does not write turn {number} ({turn['role']}) as it is"
                )
        for tool in tools or ():
            name = tool.get("function", tool).get("name", "")
            if name not in text:
                raise BadRow("refused by template", f"the chat template does not write the tools ({name!r} is missing)")


def _inexact(index: int, why: str) -> BadRow:
    return BadRow("refused by template", f"turn {index + 1} cannot be masked exactly: {why}")


def _leaves(value: Any) -> Iterable[str]:
    """The plain texts in the arguments of a call that JSON writes as they are."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _leaves(entry)
    elif isinstance(value, str) and value.isascii() and value.isalnum():
        yield value


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the texts, the longest first; with none, it finds nothing."""
    written = sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, written)) if written else r"(?!)")
