"""`type: messages`: {"messages": [{"role": "user", "content": "..."}, ...]}, the form of OpenAI's chat interface, with
tool calls, tool results, and `tools` beside them."""

from __future__ import annotations

from typing import Any

from edgeft.data.formats.turns import tools_of, turns


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"messages": turns, "tools"?}."""
    tools = tools_of(value)
    return {"messages": turns(value.get("messages"))} | ({"tools": tools} if tools else {})
