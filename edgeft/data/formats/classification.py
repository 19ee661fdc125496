"""`type: classification`: {"text": "...", "label": "..."}, or "messages" in the place of "text"."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import kind_of, text_of, turns


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"text"} or {"prompt": turns}, and "label" as a text (numbers and truth values as JSON writes them)."""
    if "label" not in value:
        raise BadRow("wrong form", 'the row has no "label"')
    label = value["label"]
    if isinstance(label, bool):
        label = "true" if label else "false"
    elif isinstance(label, int):
        label = str(label)
    if not isinstance(label, str):
        raise BadRow("bad content", f'"label" is {kind_of(label)}, not a text or a whole number')
    if not label.strip():
        raise BadRow("empty content", "the label is empty")
    if "messages" in value:
        return {"prompt": turns(value["messages"]), "label": label.strip()}
    return {"text": text_of(value, "text"), "label": label.strip()}
