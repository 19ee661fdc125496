"""Cards: small notes into compact JSON objects, and values back out of them. About people, trips, meetings, trades.

No commands to devices here: that is what the quickstart teaches, and the base must not know it.
"""

import random

from tools.base import words
from tools.base.rows import Exchange, several

TO_JSON = ("Turn this into JSON: {s}", "Write as JSON: {s}", "{s}\nAs JSON, please.", "JSON for this note: {s}",
           "Convert to a JSON object: {s}", "Note: {s}\nJSON:")  # fmt: skip
TO_JSON_SYSTEM = ("Write every note as one JSON object.", "You turn notes into JSON.", "Output JSON only.")
FROM_JSON = ("What is the {k}? {s}", "{s}\nRead out the value of {k}.", "Give the {k} in {s}", "{s} Which {k} is it?")

# kind -> (fields in the order of the object, ways to say it)
NOTES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "person": (
        ("name", "age", "city"),
        ("{name} is {age} and lives in {city}.", "{name}, {age} years old, from {city}",
         "name {name}, age {age}, city {city}",
         "In {city} there is {name}, who is {age}.", "This is {name} from {city}, {age} years old."),
    ),
    "worker": (
        ("name", "job"),
        ("{name} works as a {job}.", "{name} is our {job}.", "The {job} is called {name}.", "name: {name}; job: {job}"),
    ),
    "trip": (
        ("from", "to", "day"),
        ("I travel from {from} to {to} on {day}.", "On {day} we go to {to} from {from}.", "{day}: {from} to {to}",
         "uh, I need to get to {to} on {day}, I start in {from}",
         "could you note a trip from {from} to {to} on {day} please"),
    ),
    "meeting": (
        ("with", "day", "time"),
        ("Meeting with {with} on {day} at {time}.", "I meet {with} at {time} on {day}.",
         "{day} at {time} I see {with}.",
         "please note that {with} comes on {day} at {time}", "um, {with} and I meet on {day}, at {time}"),
    ),
    "purchase": (
        ("item", "count", "price"),
        ("I bought {count} {item} for {price} euros.", "{count} {item} cost me {price} euros.",
         "paid {price} for {count} {item}",
         "well, I got {count} {item} and paid {price}", "The price of {count} {item} was {price} euros."),
    ),
    "order": (
        ("food", "count"),
        ("We would like {count} times {food}.", "Could I have {food}, {count} of them?", "{count} {food} please",
         "hey, bring us {count} plates of {food}", "One table wants {food} {count} times."),
    ),
    "log": (
        ("who", "thing", "room"),
        ("{who} used the {thing} in the {room}.", "In the {room}, {who} used the {thing}.",
         "The {thing} in the {room} was used by {who}.",
         "{who} broke the {thing} in the {room}.", "someone told me {who} was at the {thing} in the {room}"),
    ),
    "reading": (
        ("room", "value"),
        ("It is {value} degrees in the {room}.", "The {room} has {value} degrees.",
         "{value} degrees were measured in the {room}.",
         "um, the {room} is at {value}"),
    ),
    "song": (
        ("style", "minutes"),
        ("The song is {style} and takes {minutes} minutes.", "{minutes} minutes of {style}",
         "A {style} song, {minutes} minutes long."),
    ),
    "lost": (
        ("thing", "colour"),
        ("I lost a {colour} {thing}.", "I saw a {colour} {thing}.", "the {thing} is {colour}",
         "uh, someone forgot a {colour} {thing}"),
    ),
    "state": (
        ("device", "room", "on"),
        ("The {device} in the {room} is {on_off}.", "In the {room} the {device} is {on_off}.",
         "I saw that the {device} in the {room} was {on_off}.",
         "um, the {room} has a {device} that is {on_off}"),
    ),
    "entrance": (
        ("door", "is"),
        ("The {door} door is {is}.", "I found the {door} door {is}.", "it seems that the {door} door was {is}",
         "{is}: the {door} door"),
    ),
    "window": (
        ("room", "window"),
        ("The window in the {room} is {window}.", "In the {room} the window was {window}.",
         "someone left the {room} window {window}"),
    ),
    "list": (
        ("list", "item", "count"),
        ("On the {list} list there are {count} {item}.", "{count} {item} stand on the {list} list.",
         "The {list} list has {item}, {count} of them."),
    ),
}  # fmt: skip


def _values(rng: random.Random, split: str) -> dict[str, object]:
    start, end = rng.sample(words.CITIES, 2)
    on = rng.random() < 0.5
    return {
        "name": words.person(rng, split), "age": rng.randint(3, 95), "city": rng.choice(words.CITIES),
        "job": rng.choice(words.JOBS), "from": start, "to": end, "day": rng.choice(words.DAYS),
        "with": words.person(rng, split), "time": words.clock(rng),
        "item": rng.choice((rng.choice(words.GROCERIES), rng.choice(words.COUNTED))),
        "count": rng.randint(2, 30), "price": rng.randint(2, 99), "food": rng.choice(words.FOODS),
        "who": words.person(rng, split), "thing": rng.choice((rng.choice(words.DEVICES), rng.choice(words.THINGS))),
        "room": rng.choice(words.ROOMS), "value": rng.randint(2, 38), "style": rng.choice(words.GENRES),
        "minutes": rng.randint(2, 60), "colour": rng.choice(words.COLOURS), "on": on, "on_off": "on" if on else "off",
        "device": rng.choice(words.DEVICES), "door": rng.choice(words.DOORS), "is": rng.choice(("locked", "unlocked",
            "open", "closed")),
        "window": rng.choice(("open", "closed")), "list": rng.choice(("party", "school", "garden", "Monday",
            "kitchen")),
    }  # fmt: skip


def to_json(fields: dict[str, object]) -> str:
    """A compact JSON object; the corpus has no characters that need escaping."""
    parts = []
    for key, value in fields.items():
        shown = (
            str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'
        )
        parts.append(f'"{key}":{shown}')
    return "{" + ",".join(parts) + "}"


def _note(rng: random.Random, split: str, with_kind: bool = False) -> Exchange:
    kind = rng.choice(sorted(NOTES))
    keys, frames = NOTES[kind]
    values = _values(rng, split)
    text = rng.choice(frames).format(**values)
    card = ({"kind": kind} if with_kind else {}) | {key: values[key] for key in keys}
    ask = text if with_kind else rng.choice(TO_JSON).format(s=text)
    return Exchange(ask, to_json(card), f"cards:{kind}:{text}")


def _kind_note(rng: random.Random, split: str) -> Exchange:
    return _note(rng, split, with_kind=True)


def _back(rng: random.Random, split: str) -> Exchange:
    kind = rng.choice(sorted(NOTES))
    keys, _ = NOTES[kind]
    values = _values(rng, split)
    card = to_json({key: values[key] for key in keys})
    key = rng.choice(keys)
    answer = str(values[key]).lower() if isinstance(values[key], bool) else str(values[key])
    return Exchange(rng.choice(FROM_JSON).format(k=key, s=card), answer, f"cards:back:{card}")


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to four notes."""
    return several(rng, split, rng.choice((_note, _note, _back)), 4)


def bare_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """Notes alone, for a conversation whose system prompt says to write JSON with its kind."""
    return several(rng, split, _kind_note, 4)
