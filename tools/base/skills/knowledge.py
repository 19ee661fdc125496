"""Knowledge: opposites, kinds of things, small facts, the calendar. Learned in pre-training, asked in many ways.

The facts themselves have to be in the corpus; a held-out row pairs a known fact with a question it was never asked in.
"""

import random

from tools.base import words
from tools.base.rows import Exchange, several

OPPOSITE = (
    "What is the opposite of {x}?",
    "Opposite of {x}?",
    "Give the opposite of {x}.",
    "{x} is the opposite of what?",
    "Say the opposite: {x}",
    "Which word means the opposite of {x}?",
)
KIND = (
    "What kind of thing is {an_x}?",
    "Which category does {x} belong to?",
    "{x}: what is it?",
    "Name the category of {x}.",
    "Put {x} into a category.",
    "To which group does {x} belong?",
)
FACTS = {
    "home": (
        words.HOMES,
        ("Where does {an_x} live?", "What is the home of {an_x}?", "Name the home of {an_x}.", "Home of {an_x}?"),
    ),
    "young": (
        words.YOUNG,
        (
            "What is a young {x} called?",
            "What is the baby of {an_x} called?",
            "Name the young of {an_x}.",
            "Word for a young {x}?",
        ),
    ),
    "sound": (
        words.SOUNDS,
        (
            "What does {an_x} do when it makes a sound?",
            "Which sound verb fits {an_x}?",
            "{x}: what sound?",
            "How does {an_x} sound?",
        ),
    ),
    "use": (
        words.USES,
        (
            "What is {an_x} for?",
            "What do you use {an_x} for?",
            "Name the use of {an_x}.",
            "What is the purpose of {an_x}?",
        ),
    ),
    "capital": (
        words.CAPITALS,
        (
            "What is the capital of {x}?",
            "Capital of {x}?",
            "Name the capital of {x}.",
            "Which city is the capital of {x}?",
        ),
    ),
}
NEXT = (
    "What comes after {x}?",
    "Which one follows {x}?",
    "Name the one right after {x}.",
    "{x} is over. What is next?",
)
PREVIOUS = (
    "What comes before {x}?",
    "Which one is just before {x}?",
    "Name the one right before {x}.",
    "What was it before {x}?",
)


def _opposite(rng: random.Random) -> tuple[str, str, str, str]:
    pair = list(rng.choice(words.OPPOSITES))
    rng.shuffle(pair)
    return "opposite", rng.choice(OPPOSITE), pair[0], pair[1]


def _kind(rng: random.Random) -> tuple[str, str, str, str]:
    category = rng.choice(sorted(words.CATEGORIES))
    single = [
        word for word in words.CATEGORIES[category] if sum(word in pool for pool in words.CATEGORIES.values()) == 1
    ]
    return "kind", rng.choice(KIND), rng.choice(single), category


def _fact(rng: random.Random) -> tuple[str, str, str, str]:
    kind = rng.choice(sorted(FACTS))
    facts, frames = FACTS[kind]
    subject = rng.choice(sorted(facts))
    return kind, rng.choice(frames), subject, facts[subject]


def _calendar(rng: random.Random) -> tuple[str, str, str, str]:
    cycle = rng.choice((words.DAYS, words.MONTHS))
    place = rng.randrange(len(cycle))
    step, frames = rng.choice(((1, NEXT), (-1, PREVIOUS)))
    return "calendar", rng.choice(frames), cycle[place], cycle[(place + step) % len(cycle)]


MIX = (_opposite, _opposite, _kind, _kind, _fact, _fact, _calendar)
HELD_MIX = (_opposite, _kind, _kind, _fact, _fact, _calendar)


def _batch(rng: random.Random, split: str) -> Exchange:
    """Several facts at once; for training only."""
    frame, pairs = rng.choice(
        (
            ("Give the opposites: {x}", [(a, b) for pair in words.OPPOSITES for a, b in (pair, pair[::-1])]),
            ("Give the category of each: {x}", [_kind(rng)[2:] for _ in range(8)]),
            ("Name the capitals of {x}", list(words.CAPITALS.items())),
            ("Name the young of each: {x}", list(words.YOUNG.items())),
            ("Name the home of each: {x}", list(words.HOMES.items())),
            ("How do they sound? {x}", list(words.SOUNDS.items())),
            ("What are these for? {x}", list(words.USES.items())),
        )
    )
    asked, answers = zip(*rng.sample(pairs, rng.randint(2, 6)), strict=True)
    return Exchange(frame.format(x=", ".join(asked)), ", ".join(answers), f"knowledge:batch:{frame}{asked}")


def _one(rng: random.Random, split: str) -> Exchange:
    if split == "train" and rng.random() < 0.3:
        return _batch(rng, split)
    kind, frame, subject, answer = rng.choice(HELD_MIX if split == "held" else MIX)(rng)
    ask = frame.format(x=subject, an_x=words.article(subject))
    return Exchange(
        ask[0].upper() + ask[1:] if rng.random() < 0.5 else ask, answer, f"knowledge:{kind}:{frame}|{subject}"
    )


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to six questions."""
    return several(rng, split, _one, 6)
