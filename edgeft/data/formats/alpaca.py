"""`type: alpaca`: {"instruction": "...", "input": "...", "output": "..."}, optionally with "system" and "history"."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import Turn, text_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"messages": turns}: the instruction and the input below it are the user's turn. No fixed wording is put around
    them: the model's own chat template marks the turns."""
    question, answer = text_of(value, "instruction"), text_of(value, "output")
    more = value.get("input")
    if isinstance(more, str) and more.strip():
        question = f"{question}\n\n{more}"
    found: list[Turn] = []
    if isinstance(value.get("system"), str) and value["system"].strip():
        found.append({"role": "system", "content": value["system"]})
    for pair in value.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRow("wrong form", '"history" is no list of [question, answer] pairs')
        found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return {"messages": [*found, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
