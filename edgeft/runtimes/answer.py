"""What the three runtimes share of answering: choosing a token, seeing the end, streaming, refusing what does not fit.

The choice is made here and not in each library's sampler, so that the same logits and the same seed give the same
answer in every runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.errors import ModelError
from edgeft.runtimes.protocol import Completion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UNFINISHED = "\ufffd"  # how a decoder shows the first bytes of a character whose last bytes are still to come


def check_ids(ids: Sequence[int], *, vocab_size: int, context_length: int, where: str, room: int = 0) -> None:
    """Refuse token ids that no model could read: none, outside the vocabulary, or more than the context holds.

    `room` is the number of tokens that must still fit behind them. These checks stand before the libraries', because
    some of those end the process (llama.cpp's asserts) or read other memory.
    """
    if not ids:
        raise ModelError("there are no tokens to read", where=where)
    low, high = min(ids), max(ids)
    if low < 0 or high >= vocab_size:
        raise ModelError(
            f"token id {low if low < 0 else high} is outside the vocabulary of {vocab_size}",
            where=where,
            do="the tokenizer that made it belongs to another model, or does not know a character",
        )
    if len(ids) + room > context_length:
        raise ModelError(
            f"{len(ids)} tokens do not fit into the context of {context_length}",
            where=where,
            do="shorten the text, or open the model with a longer context if it has one",
        )


def choose(logits: NDArray[np.float32], temperature: float, random: np.random.Generator | None) -> int:
    """The next token of float32[V] logits: the first of the highest at temperature 0, else drawn from the softmax."""
    import numpy as np

    if temperature <= 0 or random is None:
        return int(np.argmax(logits))
    scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    cumulated = np.cumsum(np.exp(scaled))
    return int(np.searchsorted(cumulated, random.random() * cumulated[-1], side="right").clip(0, len(logits) - 1))


def generators(count: int, temperature: float, seed: int) -> list[Any]:
    """One random generator per prompt (its own, so that batching changes nothing), or None for greedy answers."""
    if temperature <= 0:
        return [None] * count
    import numpy as np

    return [np.random.default_rng([seed, index]) for index in range(count)]


class Answer:
    """One answer as it grows. `decode` turns token ids into text (special tokens left out)."""

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        stop_ids: Iterable[int],
        max_tokens: int,
        stop: Sequence[str] = (),
        on_token: Callable[[str], None] | None = None,
    ) -> None:
        self.ids: list[int] = []
        self.stopped = False
        self._decode = decode
        self._stop_ids = frozenset(stop_ids)
        self.max_tokens = max_tokens
        self._on_token = on_token
        self._stop = tuple(text for text in stop if text)
        self._cut: int | None = None  # where the first stop text begins in the text
        self._told = 0  # characters of the text that `on_token` has received

    @property
    def done(self) -> bool:
        return self.stopped or len(self.ids) >= self.max_tokens

    def add(self, token: int) -> None:
        self.ids.append(token)
        self.stopped = token in self._stop_ids
        if self._stop and not self.stopped:
            self._look_for_stop()
        if self._on_token is not None:
            self._tell(self._on_token)

    def _look_for_stop(self) -> None:
        text = self._decode(self.ids)
        places = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if places:
            self._cut, self.stopped = min(places), True

    def _tell(self, on_token: Callable[[str], None]) -> None:
        text = self.text()
        if not self.done:  # an unfinished character waits for its last byte
            text = text.rstrip(_UNFINISHED)
            text = text[: len(text) - max((_begun(text, stop) for stop in self._stop), default=0)]
        if len(text) > self._told:
            on_token(text[self._told :])
            self._told = len(text)

    def text(self) -> str:
        if self._cut is not None:
            return self._decode(self.ids)[: self._cut]
        kept = self.ids[:-1] if self.stopped else self.ids
        return self._decode(kept) if kept else ""

    def completion(self) -> Completion:
        return Completion(tuple(self.ids), self.text(), self.stopped)


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` could be the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:size])), 0)


class Answering(Protocol):
    """What is read of a runtime whose answers begin."""

    stop_ids: tuple[int, ...]
    context_length: int

    def decode(self, ids: Sequence[int]) -> str: ...
    def check(self, ids: Sequence[int], room: int = 0) -> None: ...


def begin(
    runtime: Answering,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Sequence[str],
    on_token: Callable[[str], None] | None,
) -> list[Answer]:
    """A fresh answer to each prompt, as long as `max_tokens` and the context allow. Raises `ModelError` for a prompt
    that does not fit, before any of them is answered."""
    for prompt in prompts:
        runtime.check(prompt, room=1)
    return [
        Answer(
            runtime.decode,
            stop_ids=runtime.stop_ids,
            max_tokens=min(max_tokens, runtime.context_length - len(prompt)),
            stop=stop,
            on_token=on_token,
        )
        for prompt in prompts
    ]


def answer_each(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Answer],
    start: Callable[[Sequence[int], int], NDArray[np.float32]],
    step: Callable[[int], NDArray[np.float32]],
    *,
    temperature: float,
    seed: int,
) -> list[Completion]:
    """Answer prompts one after the other, each in the fresh one of `answers`.

    start   (prompt ids, tokens that will follow at most) -> float32[V] logits after the prompt
    step    (token) -> float32[V] logits after that token
    """
    for prompt, current, random in zip(prompts, answers, generators(len(prompts), temperature, seed), strict=True):
        if not current.done:
            logits = start(prompt, current.max_tokens)
            current.add(choose(logits, temperature, random))
            while not current.done:
                current.add(choose(step(current.ids[-1]), temperature, random))
    return [current.completion() for current in answers]
