"""A conversation as the chat template of a transformers tokenizer renders it. Used by `hf` and `reward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.errors import ModelError
from edgeft.runtimes.protocol import Message
from edgeft.template_date import strftime_now


def rendered(
    tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool, tools: Sequence[Any], where: str
) -> str:
    """The text, with the `tools` that the conversation offers; a `ModelError` at `where` when there is no template or
    it does not accept the conversation."""
    import jinja2

    if not tokenizer.chat_template:
        raise ModelError("the tokenizer has no chat template", where=where)
    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            tools=list(tools) or None,
            strftime_now=strftime_now,
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"the chat template does not accept this conversation: {error}", where=where) from None
    return str(text)
