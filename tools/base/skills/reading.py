"""Reading: a short passage of facts about people, then questions whose answers stand in it."""

import random

from tools.base import words
from tools.base.rows import Exchange, is_held

# kind -> (statement frames, (question, answer slot) pairs). {n} is the person, {a} {b} are the fact's values.
FACTS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "city": (
        ("{n} lives in {a}.", "{n} moved to {a} last year.", "The home of {n} is in {a}."),
        (
            ("Where does {n} live?", "a"), ("In which city does {n} live?", "a"), ("Who lives in {a}?", "n"),
            ("Name the city {n} lives in.", "a"),
        ),
    ),
    "job": (
        ("{n} works as {an_a}.", "{n} is {an_a}.", "{n} earns money as {an_a}."),
        (
            ("What is the job of {n}?", "a"), ("What does {n} do for a living?", "a"), ("Who is {an_a}?", "n"),
            ("What does {n} work as?", "a"),
        ),
    ),
    "colour": (
        ("{n} has {an_a} {b}.", "{n} owns {an_a} {b}.", "The {b} of {n} is {a}."),
        (
            ("What colour is the {b} of {n}?", "a"), ("Who has the {b}?", "n"), ("What does {n} own?", "b"),
            ("Which colour does the {b} have?", "a"),
        ),
    ),
    "pet": (
        ("{n} has {an_a} called {b}.", "{b} is the {a} of {n}.", "The {a} of {n} is called {b}."),
        (
            ("What is the {a} of {n} called?", "b"), ("Which animal does {n} have?", "a"), ("Whose pet is {b}?", "n"),
            ("What kind of animal is {b}?", "a"),
        ),
    ),
    "count": (
        ("{n} bought {a} {b}.", "{n} needs {a} {b}.", "{n} has {a} {b} in a bag."),
        (("How many {b} are there?", "a"), ("Who has something to do with {b}?", "n"), ("What number goes with {n}?",
         "a")),
    ),
    "age": (
        ("{n} is {a} years old.", "The age of {n} is {a}.", "{n} turned {a} this week."),
        (("How old is {n}?", "a"), ("What is the age of {n}?", "a"), ("Who is {a}?", "n"), ("Who is {a} years old?",
         "n")),
    ),
    "food": (
        ("{n} likes {a}.", "The favourite food of {n} is {a}.", "{n} eats {a} every day."),
        (("What does {n} like to eat?", "a"), ("Who likes {a}?", "n"), ("What is the favourite food of {n}?", "a")),
    ),
    "travel": (
        ("{n} goes to the {b} by {a}.", "{n} takes the {a} to the {b}."),
        (("How does {n} travel?", "a"), ("Where does {n} go?", "b"), ("Who goes to the {b}?", "n")),
    ),
    "time": (
        ("{n} gets up at {a}.", "{n} leaves home at {a}.", "{n} has a meeting at {a}."),
        (("At what time is it for {n}?", "a"), ("Which time goes with {n}?", "a"), ("Whose time is {a}?", "n")),
    ),
    "switch": (
        (
            "{n} switched on the {a} in the {b}.", "{n} turned off the {a} in the {b}.",
            "{n} fixed the {a} in the {b}.",
            "In the {b}, {n} forgot to turn off the {a}.",
        ),
        (("In which room is the {a}?", "b"), ("Who was in the {b}?", "n"), ("Which device did {n} use?", "a")),
    ),
    "put": (
        ("{n} put the {a} in the {b}.", "{n} left the {a} in the {b}.", "{n} found the {a} in the {b}."),
        (("What is the {a} in?", "b"), ("What is in the {b}?", "a"), ("Who had the {a}?", "n")),
    ),
    "day": (
        ("{n} meets {b} on {a}.", "On {a}, {n} will visit {b}."),
        (("On which day does {n} meet {b}?", "a"), ("Whom does {n} see?", "b"), ("Which day goes with {n}?", "a")),
    ),
}  # fmt: skip

LAYOUTS = (
    "{p}\n\n{q}", "{p}\n{q}", "{p} {q}", "Text: {p}\nQuestion: {q}", "Read this: {p}\n{q}", "{q}\n\n{p}",
    "Answer from the text.\n{p}\n{q}", "Passage:\n{p}\n\nQuestion: {q}", "Here is a note: {p} {q}",
)  # fmt: skip


def _values(kind: str, rng: random.Random, split: str) -> dict[str, str]:
    pick = rng.choice
    values = {
        "city": (words.CITIES, ()), "job": (words.JOBS, ()), "colour": (words.COLOURS, words.THINGS),
        "pet": (words.CATEGORIES["animal"], words.PET_NAMES), "food": (words.FOODS, ()),
        "travel": (words.VEHICLES, words.PLACES), "switch": (words.DEVICES, words.ROOMS),
        "put": (words.THINGS, words.CONTAINERS), "count": ((), words.COUNTED),
    }  # fmt: skip
    if kind == "day":
        return {"a": pick(words.DAYS), "b": words.person(rng, split)}
    if kind == "time":
        return {"a": words.clock(rng), "b": ""}
    if kind in ("age", "count"):
        low, high, names = (5, 95, [""]) if kind == "age" else (2, 60, words.COUNTED)
        return {"a": str(rng.randint(low, high)), "b": pick(names)}
    first, second = values[kind]
    return {"a": pick(first), "b": pick(second) if second else ""}


def _facts(rng: random.Random, split: str, counts: tuple[int, ...], mixed: bool) -> list[tuple[str, dict[str, str]]]:
    """Two to four facts in which no value appears twice, so that every question has one answer."""
    facts: list[tuple[str, dict[str, str]]] = []
    used: set[str] = set()
    count = 0 if mixed else rng.choice((1, 2, 2))
    kinds = rng.sample(sorted(FACTS), count or max(counts))
    for place in range(rng.choice(counts)):
        while True:
            kind = kinds[place] if mixed else rng.choice(kinds)
            values = {"n": words.person(rng, split)} | _values(kind, rng, split)
            if not used.intersection(v for v in values.values() if v):
                break
        used.update(v for v in values.values() if v)
        values["an_a"] = words.article(values["a"])
        facts.append((kind, values))
    return facts


def _passage(
    rng: random.Random, split: str, counts: tuple[int, ...], mixed: bool
) -> tuple[str, list[tuple[str, dict[str, str]]]]:
    while True:
        facts = _facts(rng, split, counts, mixed)
        passage = " ".join(rng.choice(FACTS[kind][0]).format(**values) for kind, values in facts)
        if is_held(passage) == (split == "held"):
            return passage, facts


def short_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """Two or three facts."""
    return exchanges(rng, split, (2, 2, 3))


def mixed_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """Two or three facts, each of another kind; mostly asked for something else than the person."""
    return exchanges(rng, split, (2, 2, 3), mixed=True)


def exchanges(
    rng: random.Random, split: str, counts: tuple[int, ...] = (2, 2, 3, 3, 4), mixed: bool = False
) -> list[Exchange]:
    """A passage and one to five questions about it."""
    passage, facts = _passage(rng, split, counts, mixed)
    questions = []
    for kind, values in facts:
        for question, slot in FACTS[kind][1]:
            if not (mixed and slot == "n" and rng.random() < 0.5):
                questions.append((kind, question.format(**values), values[slot]))
    count = 1 if split == "held" else min(len(questions), rng.choice((1, 2, 3, 4, 5)))
    rows: list[Exchange] = []
    for kind, question, answer in rng.sample(questions, count):
        ask = question if rows else rng.choice(LAYOUTS).format(p=passage, q=question)
        rows.append(Exchange(ask, answer, f"reading:{kind}:{passage}"))
    return rows
