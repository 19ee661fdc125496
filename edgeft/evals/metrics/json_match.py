"""Field-wise match of JSON answers (tool calls, extraction): how much of the object is right, not only whether all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_EMPTY: tuple[Any, ...] = ("empty",)


def score(expected: str, answer: str) -> float:
    """Equal leaves over all leaves that either side has, by path; 0.0 when the answer is no JSON.

    Order of keys does not count, order in lists does; a number and its text are different. A ValueError when the
    expected answer is no JSON: then the metric does not fit the suite.
    """
    try:
        wanted = dict(_leaves(_parse(expected)))
    except ValueError as error:
        raise ValueError(f"json_match: the expected answer is not JSON: {expected[:80]!r}") from error
    try:
        given = dict(_leaves(_parse(answer)))
    except ValueError:
        return 0.0
    right = sum(1 for path, value in wanted.items() if path in given and given[path] == value)
    return right / len(wanted.keys() | given.keys())


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, (type, value)) of every leaf; the type keeps 1, 1.0, true and "1" apart where JSON does."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, (_kind(value), value if value not in ({}, []) else _EMPTY)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__
