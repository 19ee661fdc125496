"""Home: spoken sentences about rooms and devices, and questions about what was said.

The base learns to understand such sentences (which room, how much, on or off, what they are about, what was meant
after a correction, the same thing said plainly). It never sees a tool call: that is the quickstart's task.
"""

import random

from tools.base import words
from tools.base.rows import Exchange, is_held

START = ("", "", "", "uh, ", "um, ", "hey, ", "okay, ", "well, ", "so, ", "please ", "could you please ", "can you ",
         "could you ", "would you ", "I want you to ", "I'd like you to ", "would you mind and ",
         "be so kind and ")  # fmt: skip
STATEMENTS = ("I ", "the ", "we ", "how ", "my ", "is ", "there ", "do ", "somebody ", "someone ", "too ", "tomorrow ")
END = ("", "", "", " please", " now", " thanks", " for me", " if you can", ", will you", " right away")

# topic -> (spoken frames, plain frame). {r} room, {d} device, {n} number, {s} on/off, {o} door, {l} locked/unlocked,
# {lv} lock/unlock, {c} open/closed, {cv} open/close, {g} style, {i} thing, {t} time
SPOKEN: dict[str, tuple[tuple[str, ...], str]] = {
    "light": (
        ("make it {n} percent bright in the {r}", "bring the {r} lamp to {n}", "have the {r} lit at {n} percent",
         "the light of the {r} should be {n}", "I need {n} percent light in the {r}",
         "get the lamps in the {r} to {n} percent",
         "turn the brightness in the {r} to {n}", "dim the lamps of the {r} down to {n} percent",
         "switch the {r} lamps to {n}",
         "brighten up the {r} a bit, say {n}", "set the lamps over in the {r} to {n} percent",
         "too dark in the {r}, light at {n}",
         "the {r} is too bright, dim it to {n}"),
        "{r}, light, {n}",
    ),
    "heat": (
        ("let the {r} be {n} degrees warm", "I need {n} degrees in the {r}", "warm the {r} up until it is {n}",
         "the {r} should have {n} degrees", "get the {r} to {n} degrees", "bring the {r} up to {n} degrees",
         "turn the heating of the {r} to {n}", "set the temperature of the {r} at {n} degrees",
         "the {r} is cold, {n} degrees would be nice",
         "cool down the {r} until it is {n}", "change the heating of the {r} to {n} degrees",
         "heat the {r}, {n} degrees"),
        "{r}, heat, {n}",
    ),
    "power": (
        ("get the {d} {s}", "have the {d} {s}", "see that the {d} goes {s}", "put {s} the {d}", "the {d} has to be {s}",
         "I would like the {d} to be {s}", "turn that {d} {s}", "switch that {d} {s}", "make the {d} go {s}",
         "let the {d} be {s}",
         "someone should switch the {d} {s}", "is the {d} {s}? it should be {s}", "do turn {s} this {d}"),
        "{d}, {s}",
    ),
    "timer": (
        ("remind me in {n} minutes", "tell me when {n} minutes are over", "count down {n} minutes",
         "I need to know when {n} minutes have passed",
         "let me know after {n} minutes", "start counting, {n} minutes", "set something for {n} minutes",
         "ring a bell in {n} minutes"),
        "{n} minutes",
    ),
    "wake": (
        ("I have to be awake at {t}", "ring at {t}", "I need to be up by {t}", "do not let me sleep after {t}",
         "my alarm must ring at {t}",
         "set my clock so that I wake at {t}", "get me out of bed at {t}", "tomorrow the alarm is at {t}"),
        "wake, {t}",
    ),
    "music": (
        ("let me hear some {g} in the {r}", "I feel like {g} in the {r}", "how about {g} for the {r}",
         "fill the {r} with {g}",
         "play a bit of {g} for the {r}", "put a {g} song on in the {r}", "start a {g} song in the {r}",
         "the {r} needs {g}", "give the {r} some {g} music"),
        "{r}, music, {g}",
    ),
    "sound": (
        ("make it as loud as {n} in the {r}", "the {r} speaker should be at {n}", "let the sound in the {r} be {n}",
         "get the {r} speaker to {n}",
         "turn the sound in the {r} to {n}", "bring the volume of the {r} to {n}",
         "the music in the {r} is too loud, {n} is enough",
         "change the speaker of the {r} to volume {n}", "set the loudness in the {r} at {n}"),
        "{r}, sound, {n}",
    ),
    "door": (
        ("see that the {o} door is {l}", "I want to have the {o} door {l}", "the {o} door ought to be {l}",
         "check that the {o} door is {l}",
         "{lv} that {o} door", "go {lv} the {o} door quickly", "do {lv} the {o} door",
         "the {o} door, could someone {lv} it", "somebody {lv} the {o} door"),
        "{o} door, {l}",
    ),
    "blinds": (
        ("I want the {r} blinds {c}", "the blinds in the {r} should be {c}", "see that the {r} curtains are {c}",
         "have the {r} blinds {c}",
         "{cv} those blinds in the {r}", "do {cv} the {r} curtains", "somebody {cv} the blinds of the {r}",
         "the curtains in the {r}, could someone {cv} them"),
        "{r}, blinds, {c}",
    ),
    "shopping": (
        ("do not forget {n} {i}", "remember {n} {i} for the shop", "get {n} {i} at the shop",
         "we ran out of {i}, bring {n}",
         "note down {n} {i} to buy", "write down {n} {i}", "my list should have {n} {i}",
         "there is no {i} left, buy {n}", "{n} {i} must go on the list"),
        "{n} {i}",
    ),
}  # fmt: skip
QUESTIONS = {
    "r": ("Which room is meant? {x}", "{x}\nWhich room?", "Name the room: {x}", "What room is this about? {x}"),
    "d": ("Which device is meant? {x}", "{x}\nWhich device?", "Name the device: {x}"),
    "n": ("Which number is said? {x}", "{x}\nHow much?", "Name the amount: {x}", "What number is wanted? {x}"),
    "s": ("On or off? {x}", "{x}\nShould it be on or off?"),
    "g": ("Which kind of music? {x}", "{x}\nWhat music is wanted?"),
    "o": ("Which door? {x}", "{x}\nName the door."),
    "l": ("Locked or unlocked? {x}", "{x}\nShould it be locked or unlocked?"),
    "c": ("Open or closed? {x}", "{x}\nShould they be open or closed?"),
    "i": ("What should be bought? {x}", "{x}\nWhat is needed?"),
    "t": ("At what time? {x}", "{x}\nWhich time is said?"),
}
TOPIC = (
    "What is this about? {x}",
    "{x}\nName the topic.",
    "Topic of this sentence: {x}",
    "Is it light, heat, power, timer, wake, music, sound, door, blinds or shopping? {x}",
)
PLAIN = ("Say it in short: {x}", "{x}\nShort form.", "Summarise: {x}", "Write only what matters: {x}")
CORRECTED = (
    "{x}\nWhat was meant in the end?",
    "Which number counts in the end? {x}",
    "{x}\nWhich number is the final one?",
)
CHANGES = (
    ", no wait, {n}",
    ", sorry, {n}",
    ", I mean {n}",
    ", no, {n}",
    ", or rather {n}",
    ", hmm, let's say {n}",
    ", oh no, {n}",
)


def _slots(rng: random.Random) -> dict[str, str]:
    locked, opened = rng.random() < 0.5, rng.random() < 0.5
    return {
        "r": rng.choice(words.ROOMS), "d": rng.choice(words.DEVICES), "n": str(rng.randint(2, 99)),
            "s": rng.choice(("on", "off")),
        "o": rng.choice(words.DOORS), "g": rng.choice(words.GENRES), "i": rng.choice(words.GROCERIES),
        "t": words.clock(rng), "l": "locked" if locked else "unlocked", "lv": "lock" if locked else "unlock",
        "c": "open" if opened else "closed", "cv": "open" if opened else "close",
    }  # fmt: skip


def _said(frame: str, slots: dict[str, str]) -> dict[str, str]:
    """What the sentence says; a verb (lock) says the state too (locked)."""
    return {slot: value for slot, value in slots.items() if "{" + slot + "}" in frame or "{" + slot + "v}" in frame}


def spoken(rng: random.Random) -> tuple[str, str, str, dict[str, str]]:
    """A spoken sentence: topic, frame, sentence, what was said in its slots."""
    topic = rng.choice(sorted(SPOKEN))
    frame = rng.choice(SPOKEN[topic][0])
    slots = _slots(rng)
    core = frame.format(**slots)
    start = rng.choice(START if not core.startswith(STATEMENTS) else ("", "uh, ", "um, ", "hey, ", "so, "))
    return topic, frame, start + core + rng.choice(END), _said(frame, slots)


def _questions(topic: str, said: dict[str, str]) -> list[tuple[tuple[str, ...], str]]:
    questions = [(QUESTIONS[slot], value) for slot, value in said.items() if slot in QUESTIONS]
    questions.append((TOPIC, topic))
    questions.append((PLAIN, SPOKEN[topic][1].format(**said)))
    return questions


def _corrected(rng: random.Random, sentence: str, number: str) -> Exchange:
    meant = str(rng.randint(2, 99))
    said = sentence + rng.choice(CHANGES).format(n=meant)
    return Exchange(rng.choice(CORRECTED).format(x=said), meant, f"home:corrected:{sentence}")


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One sentence and one or more questions about it."""
    while True:
        topic, _, sentence, said = spoken(rng)
        if is_held(sentence) == (split == "held"):
            break
    if "n" in said and rng.random() < 0.2:
        return [_corrected(rng, sentence, said["n"])]
    questions = _questions(topic, said)
    count = 1 if split == "held" else rng.randint(1, len(questions))
    rows: list[Exchange] = []
    for frames, answer in rng.sample(questions, count):
        ask = rng.choice(frames)
        ask = ask.format(x=sentence) if not rows else ask.replace("{x}", "").strip()
        rows.append(Exchange(ask, answer, f"home:{topic}:{sentence}"))
    return rows
