"""`type: prompts`: {"prompt": ...} and whatever rewards need to judge an answer: rows for training by reward."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.prompt_completion import prompt_of
from edgeft.data.formats.turns import tools_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"prompt": turns, "reference": the row's other fields}."""
    if "prompt" not in value:
        raise BadRow("wrong form", 'the row has no "prompt"')
    tools = tools_of(value)
    reference = {key: found for key, found in value.items() if key not in ("prompt", "system", "tools")}
    return {"prompt": prompt_of(value), "reference": reference} | ({"tools": tools} if tools else {})
