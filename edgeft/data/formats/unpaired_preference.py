"""`type: unpaired_preference`: {"prompt": ..., "completion": ..., "label": true}: an answer, and whether it is a good
one."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.prompt_completion import prompt_of
from edgeft.data.formats.turns import conversation, kind_of, tools_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"prompt", "completion"}: lists of turns; "label": bool."""
    for key in ("prompt", "completion", "label"):
        if key not in value:
            raise BadRow("wrong form", f'the row has no "{key}"')
    label = _label(value["label"])
    tools = tools_of(value)
    completion = conversation(value["completion"], "assistant", "completion")
    return {"prompt": prompt_of(value), "completion": completion, "label": label} | ({"tools": tools} if tools else {})


def _label(value: Any) -> bool:
    """true and false, also as a CSV file writes them."""
    words = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise BadRow("bad content", f'"label" is {kind_of(value)}, not true or false')
