"""`type: sharegpt`: {"conversations": [{"from": "human", "value": "..."}, ...]}, perhaps with "system" and "tools"."""

from __future__ import annotations

import json
from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import Turn, kind_of, tools_of, turns

_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "system": "system", "observation": "tool",
    "tool": "tool", "function_response": "tool", "function_call": "call",
}  # fmt: skip


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"messages": turns, "tools"?}."""
    listed = value.get("conversations", value.get("conversation"))
    if not isinstance(listed, list):
        raise BadRow("wrong form", f'"conversations" is {kind_of(listed)}, not a list')
    found = [_turn(entry, number) for number, entry in enumerate(listed, 1)]
    system = value.get("system")
    if isinstance(system, str) and system.strip() and (not found or found[0]["role"] != "system"):
        found.insert(0, {"role": "system", "content": system})
    tools = tools_of(value)
    return {"messages": turns(found, "conversations")} | ({"tools": tools} if tools else {})


def _turn(entry: Any, number: int) -> Turn:
    if not isinstance(entry, dict) or "from" not in entry or "value" not in entry:
        raise BadRow("wrong form", f'turn {number} is no object with "from" and "value"')
    role = _ROLES.get(str(entry["from"]).lower())
    if role is None:
        raise BadRow("unknown role", f"turn {number} has the unknown role {entry['from']!r}")
    if role != "call":
        return {"role": role, "content": entry["value"]}
    try:
        calls = json.loads(entry["value"])
    except (TypeError, ValueError):
        raise BadRow("bad content", f"the function call of turn {number} is not JSON") from None
    return {"role": "assistant", "content": None, "tool_calls": calls if isinstance(calls, list) else [calls]}
