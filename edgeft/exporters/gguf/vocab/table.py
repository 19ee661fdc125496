"""What the readers of each form are given and give back. Used by `read`, `added` and the form modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Added:
    """One of tokenizer.json's added tokens, as the tokenizers library reads its flags."""

    id: int
    content: str
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True


@dataclass(frozen=True)
class Table:
    """Token texts and types by id, padded up to the embedding's rows, and the added tokens among them. Form modules may
    change texts and types in place before they are written."""

    tokens: list[str]
    types: list[int]
    added: list[Added]


@dataclass(frozen=True)
class Form:
    """What a form adds to the table; the fields are those of `Vocabulary`."""

    model: str
    pre: str = "default"
    merges: list[str] | None = None
    scores: list[float] | None = None
    settings: tuple[tuple[str, Any, str], ...] = ()
    differences: tuple[str, ...] = ()
    space_at_start_only: bool = False
