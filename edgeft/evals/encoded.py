"""A question as token ids, and what is said of its expected answer. Used by everything that asks a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.errors import DataError
from edgeft.evals.questions import Case
from edgeft.evals.scores import DIGITS
from edgeft.progress import Listener, Progress
from edgeft.runtimes.protocol import Runtime


@dataclass(frozen=True)
class Encoded:
    """A case as token ids: `prompt` ends where the assistant speaks; `ids` holds the expected answer too, whose tokens
    are ids[start:end] (the end of turn included)."""

    prompt: list[int]
    ids: list[int]
    start: int
    end: int
    text: str = ""  # the rendered prompt


class Steps:
    """How far all suites are, told as it grows."""

    def __init__(self, total: int, listen: Listener) -> None:
        self.done, self._total, self._listen = 0.0, total, listen

    def go(self, steps: float, what: str) -> None:
        self.done = min(self.done + steps, self._total)
        self._listen(Progress(round(self.done), self._total, "row", what))


def rounded(value: float) -> float:
    """As scores and losses stand in rows."""
    return round(float(value), DIGITS)


def of_expected(text: str, ids: Sequence[int], logprobs: Sequence[float]) -> dict[str, Any]:
    """What a row says about the expected answer: each token's log probability, and their sum as a loss."""
    import numpy as np

    return {
        "loss": rounded(-sum(logprobs)),
        "tokens": len(ids),
        "bytes": len(text.encode("utf-8", "surrogatepass")),
        "token_ids": list(ids),
        "logprobs": np.asarray(logprobs, dtype=np.float32).tolist(),
    }


def encode(runtime: Runtime, case: Case) -> Encoded:
    """A case as the runtime writes and reads it: see `encode_text`."""
    messages = list(case.messages)
    prompt = runtime.render(messages, add_generation_prompt=True, tools=case.tools)
    return encode_text(runtime, case.id, prompt, runtime.render([*messages, case.turn], tools=case.tools))


def encode_text(runtime: Runtime, name: str, text: str, whole: str) -> Encoded:
    """A rendered prompt, and the same with its answer, as token ids.

    The answer starts at the first token that differs from the prompt's: where prompt and answer would merge into one
    token, that token belongs to the answer.
    """
    prompt, ids = runtime.encode(text), runtime.encode(whole)
    if len(ids) > runtime.context_length or len(prompt) >= runtime.context_length:
        raise DataError(
            f"the row {name!r} has {max(len(ids), len(prompt))} tokens, the context of {runtime.name} holds "
            f"{runtime.context_length}",
            do="leave the row out of the suite, or use a base with a longer context",
        )
    start = common_prefix(prompt, ids)
    if not 0 < start < len(ids):
        raise DataError(f"the chat template of {runtime.name} does not write the answer of the row {name!r}")
    return Encoded(prompt, ids, start, _end_of_turn(ids, start, runtime.stop_ids), text)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _end_of_turn(ids: Sequence[int], start: int, stop_ids: Sequence[int]) -> int:
    """Just after the answer's first stop token; what the template writes behind it (a newline) is not the answer's."""
    for index in range(start, len(ids)):
        if ids[index] in stop_ids:
            return index + 1
    return len(ids)
