"""`type: preference`: {"prompt": ..., "chosen": ..., "rejected": ...}, as texts or lists of turns; without "prompt" the
turns that chosen and rejected have in common are it."""

from __future__ import annotations

from typing import Any

from edgeft.data.faults import BadRow
from edgeft.data.formats.prompt_completion import prompt_of
from edgeft.data.formats.turns import Turn, conversation, tools_of


def normal(value: dict[str, Any]) -> dict[str, Any]:
    """{"prompt", "chosen", "rejected"}: lists of turns; "tools" when the row has them."""
    for key in ("chosen", "rejected"):
        if key not in value:
            raise BadRow("wrong form", f'the row has no "{key}"')
    chosen = conversation(value["chosen"], "assistant", "chosen")
    rejected = conversation(value["rejected"], "assistant", "rejected")
    prompt = prompt_of(value) if value.get("prompt") else []
    shared = _shared(chosen, rejected)
    if shared and (not prompt or prompt == chosen[:shared]):
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    elif shared and chosen[:1] == prompt[-1:]:  # "prompt" as a text, repeated as the first turn of both
        chosen, rejected = chosen[1:], rejected[1:]
    if not prompt:
        raise BadRow("wrong form", 'the row has no "prompt", and chosen and rejected have no turn in common')
    if chosen == rejected:
        raise BadRow("wrong form", "chosen and rejected are the same")
    tools = tools_of(value)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | ({"tools": tools} if tools else {})


def _shared(first: list[Turn], second: list[Turn]) -> int:
    """How many turns both begin with, the last turn of each left out."""
    count = 0
    while count < min(len(first), len(second)) - 1 and first[count] == second[count]:
        count += 1
    return count
