"""Conversations as rows hold them, brought into one form. Used by the forms of rows; see `turns`.

A turn of ours is {"role", "content"} with, where the row has them, `tool_calls` (arguments as objects, as chat
templates want them), `tool_call_id`, `name`, `reasoning_content`, and `train: false` for a turn that is not learnt.
"""

from __future__ import annotations

import json
from typing import Any

from edgeft.data.faults import BadRow

Turn = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
_ALIASES = {"developer": "system", "function": "tool", "ipython": "tool"}
_KEPT = ("tool_call_id", "name", "reasoning_content")
_IGNORED = {"refusal", "audio", "function_call", "annotations", "id"}  # of OpenAI's answers; only when they are null


def turns(listed: Any, key: str = "messages") -> list[Turn]:
    """The turns of a list in OpenAI's form. `BadRow` for anything else."""
    if not isinstance(listed, list):
        raise BadRow("wrong form", f'"{key}" is {kind_of(listed)}, not a list')
    return [_turn(entry, number) for number, entry in enumerate(listed, 1)]


def conversation(value: Any, role: str, key: str) -> list[Turn]:
    """A text as one turn of `role`, or a list of turns as they are."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        return turns(value, key)
    if isinstance(value, dict) and "role" in value:
        return turns([value], key)
    raise BadRow("bad content", f'"{key}" is {kind_of(value)}, not a text or a list of turns')


def tools_of(value: dict[str, Any]) -> list[Any] | None:
    """The tools of a row: a list of descriptions, also as JSON text; None when it has none."""
    listed = value.get("tools")
    if isinstance(listed, str) and listed.strip():
        try:
            listed = json.loads(listed)
        except ValueError:
            raise BadRow("bad content", '"tools" is a text that is not JSON') from None
    if not listed:
        return None
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise BadRow("bad content", '"tools" is not a list of objects')
    return listed


def _turn(entry: Any, number: int) -> Turn:
    if not isinstance(entry, dict):
        raise BadRow("wrong form", f"turn {number} is {kind_of(entry)}, not an object")
    known = {"role", "content", "tool_calls", "weight", "train", *_KEPT}
    surplus = sorted(key for key, value in entry.items() if key not in known and not (key in _IGNORED and not value))
    if surplus:
        raise BadRow("wrong form", f"turn {number} has {surplus[0]!r}, which cannot be trained on")
    if "role" not in entry:
        raise BadRow("unknown role", f'turn {number} has no "role"')
    role = entry["role"]
    role = _ALIASES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise BadRow("unknown role", f"turn {number} has the unknown role {role!r}")
    calls = _calls(entry.get("tool_calls"), number, role)
    if "content" not in entry and not calls:
        raise BadRow("bad content", f'turn {number} ({role}) has no "content"')
    found: Turn = {"role": role, "content": _content(entry.get("content"), number, role, bool(calls))}
    if calls:
        found["tool_calls"] = calls
    found |= {key: entry[key] for key in _KEPT if isinstance(entry.get(key), str) and entry[key]}
    if entry.get("weight") == 0 or entry.get("train") is False:
        found["train"] = False
    return found


def _content(content: Any, number: int, role: str, calls: bool) -> str:
    if content is None and calls:
        return ""
    if isinstance(content, list) and content and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise BadRow("bad content", f'the "content" of turn {number} ({role}) is {kind_of(content)}, not a text')
    return content


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _calls(listed: Any, number: int, role: str) -> list[dict[str, Any]]:
    """Tool calls as chat templates want them: {"type": "function", "function": {"name", "arguments": object}}."""
    if not listed:
        return []
    if role != "assistant" or not isinstance(listed, list):
        raise BadRow("wrong form", f"the tool_calls of turn {number} ({role}) are no list of the assistant's")
    found = []
    for call in listed:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            raise BadRow("bad content", f"a tool call of turn {number} has no function name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments) if arguments.strip() else {}
            except ValueError:
                raise BadRow("bad content", f"the arguments of a tool call of turn {number} are not JSON") from None
        if not isinstance(arguments, dict):
            raise BadRow("bad content", f"the arguments of a tool call of turn {number} are {kind_of(arguments)}")
        known = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        found.append({**known, "type": "function", "function": {"name": name, "arguments": arguments}})
    return found


def text_of(value: dict[str, Any], key: str) -> str:
    """A text that the row must have under `key`."""
    if key not in value:
        raise BadRow("wrong form", f'the row has no "{key}"')
    if not isinstance(value[key], str):
        raise BadRow("bad content", f'"{key}" is {kind_of(value[key])}, not a text')
    return str(value[key])


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
