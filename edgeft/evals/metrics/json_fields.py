"""Accuracy field by field: of the properties that the suite's JSON Schema names, how many the answer has right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ABSENT = object()


def make(settings: Mapping[str, Any]) -> Callable[[str, str], float]:
    """The metric for a suite with the JSON Schema `settings["schema"]`. A field is a property without properties of its
    own; it is right when both sides have the same value there, or neither has one."""
    paths = list(_fields(settings["schema"], ()))
    if not paths:
        raise ValueError("json_fields: the schema names no properties")

    def score(expected: str, answer: str) -> float:
        try:
            wanted = json.loads(expected)
        except ValueError as error:
            raise ValueError(f"json_fields: the expected answer is not JSON: {expected[:80]!r}") from error
        try:
            given = json.loads(answer)
        except (ValueError, RecursionError):
            return 0.0
        return sum(_same(_at(wanted, path), _at(given, path)) for path in paths) / len(paths)

    return score


def _fields(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not properties:
        if path:
            yield path
        return
    for name, inner in properties.items():
        yield from _fields(inner, (*path, name))


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _same(wanted: Any, given: Any) -> bool:
    if wanted is _ABSENT or given is _ABSENT:
        return wanted is given
    return isinstance(wanted, bool) == isinstance(given, bool) and bool(wanted == given)
