"""`type: prompt_completion`: {"prompt": "...", "completion": "..."}, optionally with "system": one question, one
answer; either may be a list of turns."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import Turn, conversation, tools_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"messages": turns}: system (if there is one), user, assistant."""
    for key in ("prompt", "completion"):
        if key not in value:
            raise BadRow("wrong form", f'the row has no "{key}"')
    tools = tools_of(value)
    found = [*prompt_of(value), *conversation(value["completion"], "assistant", "completion")]
    return {"messages": found} | ({"tools": tools} if tools else {})


def prompt_of(value: dict[str, Any]) -> list[Turn]:
    """The turns of "prompt", after "system" when the row has one."""
    system = conversation(value["system"], "system", "system") if value.get("system") else []
    return [*system, *conversation(value["prompt"], "user", "prompt")]
