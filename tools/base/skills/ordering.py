"""Ordering: sort numbers, words, days and months; pick the extreme; turn a list round."""

import random

from tools.base import words
from tools.base.rows import Exchange, several

UP = ("Sort these numbers from smallest to largest: {x}", "Put in ascending order: {x}", "Order from low to high: {x}",
      "{x}\nSort them, smallest first.", "Arrange these numbers in rising order: {x}")  # fmt: skip
DOWN = ("Sort these numbers from largest to smallest: {x}", "Put in descending order: {x}",
    "Order from high to low: {x}",
        "{x}\nSort them, largest first.", "Arrange these numbers in falling order: {x}")  # fmt: skip
ALPHA = ("Sort these words alphabetically: {x}", "Put in alphabetical order: {x}", "Order these words from A to Z: {x}",
         "{x}\nSort them by the alphabet.")  # fmt: skip
TURN = (
    "Reverse this list: {x}",
    "Write this list backwards: {x}",
    "{x}\nTurn the order round.",
    "Say these in reverse order: {x}",
)
EXTREME = (
    ("Which number is the largest: {x}?", max), ("Which is the smallest: {x}?", min),
     ("Pick the biggest number: {x}", max),
    ("Pick the lowest number: {x}", min), ("{x}\nWhat is the maximum?", max), ("{x}\nWhat is the minimum?", min),
)  # fmt: skip
CALENDAR = (
    ("Put these days in order, starting with Monday: {x}", words.DAYS),
    ("Sort these days of the week: {x}", words.DAYS),
    ("Sort these months of the year: {x}", words.MONTHS),
    ("Put these months in order: {x}", words.MONTHS),
)
SORTABLE = words.listed(
    "apple bread cake door egg fish garden hat ink jam key lamp milk night oven paper queen river sugar table umbrella "
    "violin water yellow zebra"
)


def _numbers(rng: random.Random, counts: tuple[int, ...]) -> list[int]:
    return rng.sample(range(1, 100), rng.choice(counts))


def _sort_numbers(rng: random.Random, split: str) -> Exchange:
    numbers = _numbers(rng, (3, 3, 4))
    down = rng.random() < 0.4
    ask = rng.choice(DOWN if down else UP).format(x=", ".join(map(str, numbers)))
    ranked = sorted(numbers, reverse=down)
    return Exchange(ask, ", ".join(map(str, ranked)), f"ordering:numbers:{sorted(numbers)}")


def _extreme(rng: random.Random, split: str) -> Exchange:
    numbers = _numbers(rng, (2, 3, 4))
    frame, choose = rng.choice(EXTREME)
    return Exchange(
        frame.format(x=", ".join(map(str, numbers))), str(choose(numbers)), f"ordering:extreme:{sorted(numbers)}"
    )


def _sort_words(rng: random.Random, split: str) -> Exchange:
    chosen = rng.sample(SORTABLE, 3)
    return Exchange(
        rng.choice(ALPHA).format(x=", ".join(chosen)), ", ".join(sorted(chosen)), f"ordering:words:{sorted(chosen)}"
    )


def _reverse(rng: random.Random, split: str) -> Exchange:
    pool = rng.choice((words.THINGS, words.GROCERIES, words.COLOURS, SORTABLE, words.NAMES))
    chosen = rng.sample(pool, rng.choice((3, 3, 4)))
    return Exchange(
        rng.choice(TURN).format(x=", ".join(chosen)), ", ".join(reversed(chosen)), f"ordering:reverse:{chosen}"
    )


def _calendar(rng: random.Random, split: str) -> Exchange:
    frame, names = rng.choice(CALENDAR)
    chosen = rng.sample(names, rng.choice((3, 3, 4)))
    ranked = sorted(chosen, key=names.index)
    return Exchange(frame.format(x=", ".join(chosen)), ", ".join(ranked), f"ordering:calendar:{ranked}")


def _one(rng: random.Random, split: str) -> Exchange:
    makers = (_sort_numbers, _sort_numbers, _sort_numbers, _extreme, _sort_words, _reverse, _calendar)
    return rng.choice(makers)(rng, split)


def _easy(rng: random.Random, split: str) -> Exchange:
    makers = (_sort_numbers, _sort_numbers, _extreme, _reverse, _calendar)
    while True:
        exchange = rng.choice(makers)(rng, split)
        if exchange.ask.count(",") <= 2:
            return exchange


def short_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """Lists of three, nothing by the alphabet."""
    return several(rng, split, _easy, 4)


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to four problems."""
    return several(rng, split, _one, 4)
