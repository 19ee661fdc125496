"""The forms of a dataset's rows. A form is one file with `normal(value) -> row of ours`, which raises `BadRow`.

Called by `edgeft.data.rows`. The names are those of `type:` in a recipe; `detected` says which form a row has.
"""

from __future__ import annotations

from typing import Any

from edgeft.registry import Row

_HERE = "edgeft.data.formats"
FORMATS: dict[str, Row] = {
    "messages": Row(f"{_HERE}.messages:normal", 'conversations in OpenAI\'s form: {"messages": [...]}'),
    "sharegpt": Row(f"{_HERE}.sharegpt:normal", 'conversations: {"conversations": [{"from": ..., "value": ...}]}'),
    "alpaca": Row(f"{_HERE}.alpaca:normal", '{"instruction": ..., "input": ..., "output": ...}'),
    "prompt_completion": Row(
        f"{_HERE}.prompt_completion:normal", 'one question, one answer: {"prompt": ..., "completion": ...}'
    ),
    "text": Row(f"{_HERE}.text:normal", 'documents: {"text": ...}'),
    "preference": Row(
        f"{_HERE}.preference:normal", 'a better and a worse answer: {"prompt": ..., "chosen": ..., "rejected": ...}'
    ),
    "unpaired_preference": Row(
        f"{_HERE}.unpaired_preference:normal",
        'an answer, good or bad: {"prompt": ..., "completion": ..., "label": true}',
    ),
    "prompts": Row(f"{_HERE}.prompts:normal", 'questions for training by reward: {"prompt": ..., ...}'),
    "classification": Row(f"{_HERE}.classification:normal", '{"text": ..., "label": ...}'),
    "extraction": Row(f"{_HERE}.extraction:normal", 'a text and its JSON: {"text": ..., "json": {...}}'),
}
# Form -> keys that a row of it has; the first form whose keys are all there is the row's.
_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("preference", ("chosen", "rejected")),
    ("unpaired_preference", ("prompt", "completion", "label")),
    ("prompt_completion", ("prompt", "completion")),
    ("classification", ("messages", "label")),
    ("messages", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("alpaca", ("instruction", "output")),
    ("extraction", ("text", "json")),
    ("classification", ("text", "label")),
    ("prompts", ("prompt",)),
    ("text", ("text",)),
)


def detected(value: dict[str, Any]) -> str | None:
    """The form that a row's keys tell; None when they tell none."""
    return next((form for form, keys in _KEYS if all(value.get(key) is not None for key in keys)), None)


def keys_of(form: str) -> list[tuple[str, ...]]:
    """The sets of keys by which a form is known."""
    return [keys for name, keys in _KEYS if name == form]
