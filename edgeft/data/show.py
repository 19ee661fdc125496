"""Rows as the model will see them, token by token: what `edgeft data show` prints, of every form. Called by `cli`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeft.data.masks import IGNORED
from edgeft.data.store import rows_at

Shown = dict[str, Any]  # {"id", "tokens": [{"id", "text", "trained"}], "note"?}
_BEHIND = {"chosen_ids": "chosen", "rejected_ids": "rejected", "completion_ids": "completion"}


def shown(path: Path, tokenizer: Any, *, start: int = 0, count: int = 3, labels: Sequence[str] = ()) -> list[Shown]:
    """Some rows of a parquet file: {"id", "note", "tokens"}, one entry for each sequence (a preference has two).

    Texts are what each token adds to the decoded row, so that they join to the whole text.
    """
    return [entry for row in rows_at(path, start, count) for entry in _entries(row, tokenizer, labels)]


def _entries(row: dict[str, Any], tokenizer: Any, labels: Sequence[str]) -> list[Shown]:
    if "labels" in row:
        trained = [label != IGNORED for label in row["labels"]]
        return [_shown(row["id"], row["input_ids"], trained, tokenizer)]
    if "input_ids" in row:
        name = labels[row["label"]] if row["label"] < len(labels) else str(row["label"])
        return [_shown(row["id"], row["input_ids"], [False] * len(row["input_ids"]), tokenizer, f"label: {name}")]
    prompt = row["prompt_ids"]
    if "reference" in row:
        return [_shown(row["id"], prompt, [False] * len(prompt), tokenizer, f"reference: {row['reference']}")]
    found = []
    for key, note in _BEHIND.items():
        if key in row:
            told = f"{note}, {'good' if row['label'] else 'bad'}" if key == "completion_ids" else note
            trained = [False] * len(prompt) + [True] * len(row[key])
            found.append(_shown(row["id"], [*prompt, *row[key]], trained, tokenizer, told))
    return found


def _shown(name: str, ids: Sequence[int], trained: Sequence[bool], tokenizer: Any, note: str = "") -> Shown:
    parts = texts_of(ids, tokenizer)
    tokens = [
        {"id": token, "text": text, "trained": learnt} for token, text, learnt in zip(ids, parts, trained, strict=True)
    ]
    return {"id": name, "note": note, "tokens": tokens}


def texts_of(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """The text of each token; a character cut into several tokens stands with its last one."""
    texts, start = [], 0
    for stop in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[start:stop], clean_up_tokenization_spaces=False)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and stop < len(ids):
            texts.append("")
            continue
        texts.append(text)
        start = stop
    return texts
