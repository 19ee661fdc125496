"""Copying: say again what was said, look a word up in a short list. The corpus begins with it.

Nearly every other skill finds words in the prompt and repeats them. Learned first, from rows that are half answer, this
costs a few minutes; learned on the side, from answers of a word or two, it takes longer than all the rest.
"""

import random

from tools.base import words
from tools.base.rows import Exchange, several

COPY = ("Repeat: {s}", "Say this again: {s}", "Copy: {s}", "{s}\nAgain.", "Write the same: {s}")
LOOK_UP = ("{s}\nGive {x}.", "{s} What goes with {x}?", "{s}\nLook up {x}.", "List: {s}\nSay what belongs to {x}.")
POOLS = (
    words.NAMES,
    words.CITIES,
    words.JOBS,
    words.FOODS,
    words.DAYS,
    words.THINGS,
    words.COLOURS,
    words.ROOMS,
    words.DEVICES,
    words.GENRES,
    words.GROCERIES,
    words.ADJECTIVES,
    words.CONTAINERS,
    words.COUNTED,
    words.PLACES,
    words.DOORS,
)


def _word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.15:
        return words.invented_name(rng)
    if roll < 0.3:
        return str(rng.randint(1, 99))
    if roll < 0.35:
        return words.clock(rng)
    return rng.choice(rng.choice(POOLS))


def _different(rng: random.Random, count: int) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < count:
        word = _word(rng)
        if word not in chosen:
            chosen.append(word)
    return chosen


def _copy(rng: random.Random, split: str) -> Exchange:
    text = rng.choice((" ", " ", ", ")).join(_word(rng) for _ in range(rng.randint(2, 12)))
    return Exchange(rng.choice(COPY).format(s=text), text, f"copying:copy:{text}")


def _look_up(rng: random.Random, split: str) -> Exchange:
    count = rng.randint(2, 6)
    chosen = _different(rng, 2 * count)
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    between = rng.choice((": ", " is ", " has ", " - ", " "))
    text = rng.choice((", ", ". ", "; ")).join(f"{key}{between}{value}" for key, value in pairs) + "."
    backwards = rng.random() < 0.3
    asked = rng.sample(pairs, rng.randint(1, count))
    wanted, answers = zip(*[(v, k) if backwards else (k, v) for k, v in asked], strict=True)
    return Exchange(
        rng.choice(LOOK_UP).format(s=text, x=", ".join(wanted)), ", ".join(answers), f"copying:look up:{text}"
    )


def _one(rng: random.Random, split: str) -> Exchange:
    return rng.choice((_copy, _look_up, _look_up))(rng, split)


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to three problems."""
    return several(rng, split, _one, 3)
