"""Whether an answer makes the tool calls that are expected: the same functions in order, the same arguments."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_ARGUMENTS = ("arguments", "parameters")  # most templates write the first, those of Llama 3 the second


def score(expected: str, answer: str) -> float:
    """1.0 when the calls in both texts are the same, 0.0 when not; text around calls does not count, nor does the order
    of arguments. An answer without a call is right when none is expected.

    A call is a JSON object with "name" and "arguments" (or "parameters"), alone, in a list, or between the marks of a
    template (`<tool_call>`, `[TOOL_CALLS]`). What is not whole JSON is no call.
    """
    return float(calls_of(answer) == calls_of(expected))


def calls_of(text: str) -> list[tuple[str, Any]]:
    """(name, arguments as JSON text with sorted keys) of each call in a text, in their order."""
    return [(call["name"], _arguments(call)) for value in _values(text) for call in _listed(value) if _is_call(call)]


def _values(text: str) -> Iterator[Any]:
    """The outermost JSON objects and lists in a text."""
    decoder = json.JSONDecoder()
    place = 0
    while place < len(text):
        if text[place] in "{[":
            try:
                value, place = decoder.raw_decode(text, place)
            except RecursionError:
                return
            except ValueError:
                place += 1
                continue
            yield value
        else:
            place += 1


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_call(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("name"), str) and any(key in value for key in _ARGUMENTS)


def _arguments(call: Mapping[str, Any]) -> str:
    """The arguments, also where they are JSON in a text, so that 1 and true stay apart."""
    found = next(call[key] for key in _ARGUMENTS if key in call)
    if isinstance(found, str):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(found)
    return json.dumps(found, sort_keys=True, ensure_ascii=False)
