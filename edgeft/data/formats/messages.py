"""`type: messages`: {"messages": [{"role": "user", "content": "..."}, ...]}, the form of OpenAI's chat interface."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow

ROLES = ("system", "user", "assistant")


def turns(value: dict[str, Any]) -> list[dict[str, str]]:
    """The turns of a row, as written. `BadRow` for anything that is not a list of {"role", "content"} texts."""
    if "messages" not in value:
        hint = " (it looks like prompt_completion)" if {"prompt", "completion"} <= set(value) else ""
        raise BadRow("wrong form", f'the row has no "messages"{hint}')
    listed = value["messages"]
    if not isinstance(listed, list):
        raise BadRow("wrong form", f'"messages" is {kind_of(listed)}, not a list')
    return [_turn(entry, number) for number, entry in enumerate(listed, 1)]


def _turn(entry: Any, number: int) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise BadRow("wrong form", f"turn {number} is {kind_of(entry)}, not an object")
    surplus = sorted(set(entry) - {"role", "content"})
    if surplus:
        raise BadRow("wrong form", f"turn {number} has {surplus[0]!r}, which cannot be trained on")
    if "role" not in entry:
        raise BadRow("unknown role", f'turn {number} has no "role"')
    role = entry["role"]
    if role not in ROLES:
        raise BadRow("unknown role", f"turn {number} has the unknown role {role!r}")
    if "content" not in entry:
        raise BadRow("bad content", f'turn {number} ({role}) has no "content"')
    content = entry["content"]
    if not isinstance(content, str):
        raise BadRow("bad content", f'the "content" of turn {number} ({role}) is {kind_of(content)}, not a text')
    return {"role": role, "content": content}


def kind_of(value: Any) -> str:
    """What a JSON value is, for people."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
