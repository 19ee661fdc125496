"""Stories: plain text, for the look of ordinary sentences. Every token of it is learned."""

import random

from tools.base import words
from tools.base.skills import arithmetic

OPENINGS = ("It was {day}.", "On {day}, it was {adj} outside.", "In {month}, {n} moved to {city}.",
    "{n} lives in {city}.",
            "{n} is a {job} in {city}.", "{n} and {m} are friends.", "{n} has {an_animal} called {pet}.")  # fmt: skip
EVENTS = (
    "{n} {past} the {o} and went to the {place}.", "{n} took the {vehicle} to the {place}.",
    "Then {m} {past} a {colour} {o}.",
    "At {time}, {m} called {n}.", "{n} wanted {food}, but {m} wanted {food2}.", "The {o} was in the {container}.",
    "{m} asked: \"Where is the {o}?\"", "\"It is in the {room},\" said {n}.",
    "They bought {count} {counted} at the {place}.",
    "{n} went into the {room} because the {device} was still on.", "In the {room} it was {degrees} degrees.",
    "The {device} in the {room} did not work, so {m} fixed it.", "{m} listened to {genre} in the {room}.",
    "{n} put the {o} in the {container} and closed the {door} door.", "The {animal} was not {adj} but {opposite}.",
)  # fmt: skip
ENDINGS = (
    "In the evening they had {food}.",
    "{n} was happy.",
    "At last {m} found the {o}.",
    "The next day {n} went back to {city}.",
    "That was all.",
)
FACTS = (
    "The opposite of {adj} is {opposite}.", "{an_item} is a kind of {category}.", "{next} comes after {day}.",
    "The capital of {country} is {capital}.",
)  # fmt: skip


def _slots(rng: random.Random) -> dict[str, str]:
    n, m = words.people(rng, "train", 2)
    adj, opposite = rng.choice(words.OPPOSITES)
    day = rng.randrange(7)
    category = rng.choice(sorted(words.CATEGORIES))
    item = rng.choice(words.CATEGORIES[category])
    country = rng.choice(sorted(words.CAPITALS))
    food, food2 = rng.sample(words.FOODS, 2)
    return {
        "n": n, "m": m, "adj": adj, "opposite": opposite, "day": words.DAYS[day], "next": words.DAYS[(day + 1) % 7],
        "month": rng.choice(words.MONTHS), "city": rng.choice(words.CITIES), "job": rng.choice(words.JOBS),
        "animal": rng.choice(words.CATEGORIES["animal"]),
            "an_animal": words.article(rng.choice(words.CATEGORIES["animal"])),
        "pet": rng.choice(words.PET_NAMES), "past": words.VERBS[rng.choice(sorted(words.VERBS))][0],
        "o": rng.choice(words.THINGS), "place": rng.choice(words.PLACES), "vehicle": rng.choice(words.VEHICLES),
        "colour": rng.choice(words.COLOURS), "time": words.clock(rng), "food": food, "food2": food2,
        "container": rng.choice(words.CONTAINERS), "room": rng.choice(words.ROOMS), "count": str(rng.randint(2, 40)),
        "counted": rng.choice(words.COUNTED), "device": rng.choice(words.DEVICES), "degrees": str(rng.randint(5, 30)),
        "genre": rng.choice(words.GENRES), "door": rng.choice(words.DOORS), "category": category,
        "an_item": words.article(item).capitalize(), "country": country, "capital": words.CAPITALS[country],
    }  # fmt: skip


def text(rng: random.Random) -> str:
    """A little story, some facts of the world, or a block of sums."""
    roll = rng.random()
    if roll < 0.25:
        return arithmetic.lines(rng)
    slots = _slots(rng)
    if roll < 0.4:
        return " ".join(rng.choice(FACTS).format(**_slots(rng)) for _ in range(5))
    sentences = [rng.choice(OPENINGS), *rng.sample(EVENTS, rng.randint(3, 6)), rng.choice(ENDINGS)]
    return " ".join(sentences).format(**slots)
