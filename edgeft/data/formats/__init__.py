"""The forms of a dataset's rows. A form is one file with `turns(value) -> list of messages`, which raises `BadRow`.

Called by `edgeft.data.rows`. The names are those of `type:` in a recipe.
"""

from __future__ import annotations

from edgeft.registry import Row

FORMATS: dict[str, Row] = {
    "messages": Row("edgeft.data.formats.messages:turns", 'conversations in OpenAI\'s form: {"messages": [...]}'),
    "prompt_completion": Row(
        "edgeft.data.formats.prompt_completion:turns", 'one question, one answer: {"prompt": ..., "completion": ...}'
    ),
}
