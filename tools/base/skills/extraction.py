"""Extraction: pick from a sentence or a list what was asked for, in the order it appears."""

import random

from tools.base import words
from tools.base.rows import Exchange, join, several

LIST_KIND = (
    "List the {k} in this text: {s}",
    "Which {k} are mentioned? {s}",
    "{s}\nWrite down all {k}.",
    "Find the {k}: {s}",
)
LIST_NAMES = (
    "List the people in this text: {s}",
    "Which names are mentioned? {s}",
    "{s}\nWrite down all names.",
    "Who is in this? {s}",
)
LIST_NUMBERS = (
    "List the numbers in this text: {s}",
    "Which numbers are mentioned? {s}",
    "{s}\nWrite down all numbers.",
)
PLACE = (("What is the first item? {s}", 0), ("What is the last item? {s}", -1), ("{s}\nName the second item.", 1),
         ("Which item comes first: {s}", 0), ("Which item comes last: {s}", -1), ("{s}\nName the third item.",
          2))  # fmt: skip
COUNT = ("How many items are in this list? {s}", "Count the items: {s}", "{s}\nHow many things is that?")
SHOPPING = (
    "{n} bought {s}.",
    "On the table there are {s}.",
    "{n} saw {s} at the {p}.",
    "{n} wrote down {s}.",
    "We need {s}.",
    "I can see {s}.",
)
GATHERINGS = ("{s} went to the {p}.", "At the {p} we met {s}.", "{s} are in the {r}.", "The {o} belongs to {s}.")


def _of_kind(rng: random.Random, split: str) -> Exchange:
    wanted, other = rng.sample(sorted(words.CATEGORIES), 2)
    hits = rng.sample(words.CATEGORIES[wanted], rng.choice((1, 2, 2, 3)))
    misses = [w for w in rng.sample(words.CATEGORIES[other], rng.choice((1, 2))) if w not in words.CATEGORIES[wanted]]
    hits = [w for w in hits if w not in words.CATEGORIES[other]] or [words.CATEGORIES[wanted][0]]
    mixed = hits + misses
    rng.shuffle(mixed)
    text = rng.choice(SHOPPING).format(n=words.person(rng, split), s=join(mixed, rng), p=rng.choice(words.PLACES))
    answer = ", ".join(word for word in mixed if word in hits)
    return Exchange(rng.choice(LIST_KIND).format(k=words.PLURALS[wanted], s=text), answer, f"extraction:kind:{mixed}")


def _names(rng: random.Random, split: str) -> Exchange:
    names = words.people(rng, split, rng.choice((1, 2, 2, 3)))
    text = rng.choice(GATHERINGS).format(
        s=join(names, rng), p=rng.choice(words.PLACES), r=rng.choice(words.ROOMS), o=rng.choice(words.THINGS)
    )
    if rng.random() < 0.4:
        extra = words.person(rng, split)
        if extra not in names:
            names.append(extra)
            text += rng.choice((" Later {x} came too.", " {x} stayed at home.", " They called {x}.")).format(x=extra)
    return Exchange(rng.choice(LIST_NAMES).format(s=text), ", ".join(names), f"extraction:names:{names}")


def _numbers(rng: random.Random, split: str) -> Exchange:
    numbers = [str(n) for n in rng.sample(range(2, 100), rng.choice((1, 2, 3)))]
    parts = [f"{number} {rng.choice(words.COUNTED)}" for number in numbers]
    text = rng.choice(SHOPPING).format(n=words.person(rng, split), s=join(parts, rng), p=rng.choice(words.PLACES))
    return Exchange(rng.choice(LIST_NUMBERS).format(s=text), ", ".join(numbers), f"extraction:numbers:{parts}")


def _place(rng: random.Random, split: str) -> Exchange:
    pool = rng.choice(
        (words.THINGS, words.GROCERIES, words.JOBS, words.NAMES, words.CITIES, words.ROOMS, words.DEVICES)
    )
    items = rng.sample(pool, rng.choice((3, 3, 4)))
    frame, index = rng.choice(PLACE)
    return Exchange(frame.format(s=", ".join(items)), items[index], f"extraction:place:{items}")


def _count(rng: random.Random, split: str) -> Exchange:
    items = rng.sample(rng.choice((words.THINGS, words.GROCERIES, words.NAMES)), rng.randint(2, 6))
    return Exchange(rng.choice(COUNT).format(s=", ".join(items)), str(len(items)), f"extraction:count:{items}")


def _one(rng: random.Random, split: str) -> Exchange:
    return rng.choice((_of_kind, _of_kind, _names, _names, _numbers, _place, _place, _count))(rng, split)


def _easy(rng: random.Random, split: str) -> Exchange:
    return rng.choice((_of_kind, _names, _names, _numbers, _numbers, _place, _place, _place))(rng, split)


def easy_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """More of what stands there, less of what needs counting and knowing."""
    return several(rng, split, _easy, 4)


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to four texts."""
    return several(rng, split, _one, 4)
