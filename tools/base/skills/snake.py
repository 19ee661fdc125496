"""Snake case: words_joined_like_this. Without it the underscore would never be seen."""

import random

from tools.base import words
from tools.base.rows import Exchange, several

FRAMES = ("Write in snake case: {s}", "Join with underscores: {s}", "{s}\nIn snake case, please.")
POOLS = (words.THINGS, words.GROCERIES, words.COLOURS, words.PLACES, words.COUNTED, words.ADJECTIVES)


def _one(rng: random.Random, split: str) -> Exchange:
    chosen = [rng.choice(rng.choice(POOLS)) for _ in range(rng.randint(2, 4))]
    text = " ".join(chosen)
    return Exchange(rng.choice(FRAMES).format(s=text), text.replace(" ", "_"), f"snake:case:{text}")


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to four names."""
    return several(rng, split, _one, 4)
