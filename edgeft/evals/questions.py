"""One row of a suite as a question: what each kind of suite reads of it. Called by `edgeft.evals.suites`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.runtimes.protocol import Message


@dataclass(frozen=True)
class Case:
    """One question: the conversation so far, the answer that is expected next, and the family it belongs to. `choices`:
    the answers to choose from (of pairs, the better one first); a text whose perplexity is asked has no messages.
    `tools` are offered to the model (descriptions, as chat templates take them); `calls`: those that the expected turn
    makes besides or instead of its text."""

    id: str
    messages: tuple[Message, ...]
    expected: str
    group: str = ""
    choices: tuple[str, ...] = ()
    tools: tuple[Any, ...] = ()
    calls: tuple[Any, ...] = ()

    @property
    def turn(self) -> Message:
        """The turn that is expected, as chat templates take it."""
        return said(self.expected) | ({"tool_calls": list(self.calls)} if self.calls else {})


def said(text: str) -> Message:
    """A text as the assistant's turn."""
    return {"role": "assistant", "content": text}


def case_of(row: Mapping[str, Any], kind: str, identity: str) -> Case:
    """A row as a question of that kind. A `ValueError` that says what it lacks."""
    group = str(row.get("group", ""))
    if kind == "generation":
        *prompt, last = _conversation(row)
        calls = tuple(last.get("tool_calls") or ())
        return Case(identity, tuple(prompt), last["content"], group, tools=_tools(row), calls=calls)
    if kind == "perplexity":
        text = row.get("text")
        if not isinstance(text, str) or not text:
            raise ValueError("a row needs a 'text'")
        return Case(identity, (), text, group)
    if kind == "classification":
        label = _label(row.get("label"))
        return Case(identity, _labelled(row), label, group)
    if kind == "pairs":
        good, bad = (_last_text(row, *names) for names in (("good", "chosen"), ("bad", "rejected")))
        if good == bad:
            raise ValueError("both sides of the pair are the same")
        # Rows of a dataset artifact carry the answered conversation as "messages" beside their "prompt".
        asking = {key: value for key, value in row.items() if key != "messages" or not row.get("prompt")}
        return Case(identity, _question(asking, optional=True), good, group, (good, bad), _tools(row))
    choices = row.get("choices")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise ValueError("a row needs at least two texts under 'choices'")
    answer = row.get("answer")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        answer = choices[answer]
    if answer not in choices:
        raise ValueError("'answer' must be one of the choices, or its number from 0")
    return Case(identity, _question(row), answer, group, tuple(choices), _tools(row))


def _tools(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row offers to be called: a list of descriptions, or none."""
    tools = row.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("'tools' must be a list of objects")
    return tuple(tools)


def _conversation(row: Mapping[str, Any]) -> list[Message]:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("a row needs at least a question and its answer under 'messages'")
    _check(messages)
    if messages[-1]["role"] != "assistant":
        raise ValueError("the last message must be the assistant's expected answer")
    return messages


def _check(messages: list[Any]) -> None:
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise ValueError("a message needs a 'role' and a text 'content'")


def _question(row: Mapping[str, Any], *, optional: bool = False) -> tuple[Message, ...]:
    """The turns that ask: "messages", or one text under "prompt" or "question"."""
    for name in ("messages", "prompt", "question"):
        value = row.get(name)
        if isinstance(value, list) and value:
            _check(value)
            return tuple(value)
        if isinstance(value, str) and value:
            return ({"role": "user", "content": value},)
    if optional:
        return ()
    raise ValueError("a row needs a question under 'messages', 'prompt' or 'question'")


def _labelled(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What has a label: a text, kept as one turn of nobody, or a conversation."""
    text = row.get("text")
    if isinstance(text, str) and text:
        return ({"role": "", "content": text},)
    return _question(row)


def _label(value: Any) -> str:
    """A label as the data section reads it: numbers and truth values as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a row needs a 'label'")
    return value.strip()


def _last_text(row: Mapping[str, Any], *names: str) -> str:
    """A text under one of the names; of a list of turns, the last one's."""
    for name in names:
        value = row.get(name)
        if isinstance(value, list) and value:
            _check(value)
            value = value[-1]["content"]
        if isinstance(value, str) and value:
            return value
    raise ValueError(f"a row needs a text under {' or '.join(repr(name) for name in names)}")
