"""An answer against the expected one, in pieces: what differs is marked, and what is long is split, so that the page
can fold its rest away. Called by `page.html`."""

from __future__ import annotations

import difflib
import re
from typing import Any

FOLD = 1200  # characters of an answer that are shown at once
_MOST_WORDS = 800  # of both texts, beyond which nothing is compared: the work grows with their product


def pieces(answer: str, expected: str | None) -> dict[str, Any]:
    """{"shown": [(text, differs)], "rest": text}: the answer's words and signs that the expected answer does not have
    in that place. Nothing is marked without an expected answer, and in an answer that has nothing in common with it."""
    shown, rest = answer[:FOLD], answer[FOLD:]
    return {"shown": _compared(shown, expected), "rest": rest}


def _compared(answer: str, expected: str | None) -> list[tuple[str, bool]]:
    said, meant = _words(answer), _words(expected or "")
    if not said or not meant or len(said) > _MOST_WORDS or len(meant) > _MOST_WORDS:
        return [(answer, False)]
    matcher = difflib.SequenceMatcher(None, meant, said, autojunk=False)
    found: list[tuple[str, bool]] = []
    same = 0
    for kind, _, _, start, end in matcher.get_opcodes():
        text = "".join(said[start:end])
        if kind == "equal":
            same += len(text.strip())
        if text:
            found.append((text, kind != "equal"))
    return found if same else [(answer, False)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)
