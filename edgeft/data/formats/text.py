"""`type: text`: {"text": "..."}: raw documents, learnt whole."""

from __future__ import annotations

from typing import Any

from edgeft.data.formats.turns import text_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"text": the document}."""
    return {"text": text_of(value, "text")}
