"""Which tokens end an answer: what the configs say, and what the chat template itself writes at the end of a turn.

One answer for the transformers runtime and for exporters. Configs alone do not do: those of base models name the end of
a document, while a model tuned with a chat template ends its turns with that template's token and would ramble on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeft.models.tokenizer import generation_stop_ids
from edgeft.template_date import strftime_now

_ANSWER = "Answer."


def stop_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """Sorted: those of generation_config.json (else config.json) in `folder`, the tokenizer's end, a turn's end."""
    found = set(generation_stop_ids(folder))
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    turn = end_of_turn(tokenizer)
    if turn is not None:
        found.add(turn)
    return tuple(sorted(found))


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes right behind an assistant's answer; None when it writes none."""
    import jinja2

    if not tokenizer.chat_template:
        return None
    conversation = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, strftime_now=strftime_now)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return None  # a template for something else than conversations
    _, found, tail = text.rpartition(_ANSWER)
    ids = tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"] if found else []
    entry = tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
    return int(ids[0]) if entry is not None and entry.special else None
