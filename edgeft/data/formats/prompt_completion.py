"""`type: prompt_completion`: {"prompt": "...", "completion": "..."}, optionally with "system": one question, one
answer."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.messages import kind_of

_ROLES = {"system": "system", "prompt": "user", "completion": "assistant"}


def turns(value: dict[str, Any]) -> list[dict[str, str]]:
    """The row as a conversation: system (if there is one), user, assistant."""
    for key in ("prompt", "completion"):
        if key not in value:
            hint = " (it looks like messages)" if "messages" in value else ""
            raise BadRow("wrong form", f'the row has no "{key}"{hint}')
    found = []
    for key, role in _ROLES.items():
        if key not in value:
            continue
        if not isinstance(value[key], str):
            raise BadRow("bad content", f'"{key}" is {kind_of(value[key])}, not a text')
        found.append({"role": role, "content": value[key]})
    return found
