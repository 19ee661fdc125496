"""The unit of the corpus: an exchange (what is asked, what is answered, which problem it is).

The problem's key, not its wording, decides whether it is training material or held out, so that no paraphrase of a
held-out problem can slip into the corpus.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

HELD_ONE_IN = 16


@dataclass(frozen=True)
class Exchange:
    """One question and its answer. `key` is `skill:kind:problem`."""

    ask: str
    answer: str
    key: str

    @property
    def kind(self) -> str:
        return ":".join(self.key.split(":")[:2])


@dataclass(frozen=True)
class Row:
    """One training row: a conversation (with or without a system prompt) or, if `text` is set, plain text."""

    system: str = ""
    exchanges: tuple[Exchange, ...] = ()
    text: str = ""

    def messages(self) -> list[dict[str, str]]:
        """The row in OpenAI messages form."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            messages.append({"role": "user", "content": exchange.ask})
            messages.append({"role": "assistant", "content": exchange.answer})
        return messages


def is_held(key: str) -> bool:
    """Whether the problem belongs to the held-out rows; depends on the key alone, the same on every machine."""
    return zlib.crc32(key.encode()) % HELD_ONE_IN == 0


def draw(rng: random.Random, split: str, make: Callable[[random.Random, str], Exchange]) -> Exchange:
    """The first exchange from `make` that belongs to the split ("train" or "held")."""
    while True:
        exchange = make(rng, split)
        if is_held(exchange.key) == (split == "held"):
            return exchange


def several(
    rng: random.Random, split: str, make: Callable[[random.Random, str], Exchange], most: int
) -> list[Exchange]:
    """A conversation of one to `most` independent problems (answers are what is learned from); held out: always one."""
    count = 1 if split == "held" else rng.choice((1, 2, most // 2 + 1, most))
    return [draw(rng, split, make) for _ in range(count)]


def join(words: list[str], rng: random.Random) -> str:
    """A spoken list: "a, b and c"."""
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + rng.choice((" and ", ", and ", " and ")) + words[-1]
