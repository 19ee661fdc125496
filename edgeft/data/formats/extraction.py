"""`type: extraction`: {"text": "...", "json": {...}}: a text, and the JSON that is to be read out of it. Optionally
"instruction" (stands before the text) and "schema" (kept beside the row, not shown to the model)."""

from __future__ import annotations

import json
from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import kind_of, text_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"messages": turns, "schema"?}; the JSON is written compactly, its keys in the row's order."""
    text = text_of(value, "text")
    if "json" not in value:
        raise BadRow("wrong form", 'the row has no "json"')
    answer = value["json"]
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            raise BadRow("bad content", '"json" is a text that is not JSON') from None
    if not isinstance(answer, dict | list):
        raise BadRow("bad content", f'"json" is {kind_of(answer)}, not an object or a list')
    if value.get("instruction"):
        text = f"{text_of(value, 'instruction')}\n\n{text}"
    written = json.dumps(answer, ensure_ascii=False, separators=(", ", ": "))
    found: dict[str, Any] = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": written}]}
    return found | ({"schema": value["schema"]} if isinstance(value.get("schema"), dict) else {})
