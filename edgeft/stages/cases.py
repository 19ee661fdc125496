"""Rows of a dataset artifact as questions and expected answers. Used by the `verify` and `probe` stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from edgeft.evals.questions import Case

T = TypeVar("T")


def answered(rows: Iterable[Mapping[str, Any]]) -> Iterable[Case]:
    """Rows cut after their last assistant turn; a row without one has nothing to compare."""
    from edgeft.evals.questions import Case

    for row in rows:
        messages = list(row.get("messages", ()))
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if len(messages) > 1:
            last = messages[-1]
            offered, calls = tuple(row.get("tools") or ()), tuple(last.get("tool_calls") or ())
            yield Case(str(row["id"]), tuple(messages[:-1]), last["content"], tools=offered, calls=calls)


def spread(found: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly over all."""
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]
