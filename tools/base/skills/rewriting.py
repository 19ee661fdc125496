"""Rewriting: one sentence in, the same sentence changed in one stated way out."""

import random

from tools.base import words
from tools.base.rows import Exchange, several

PAST_TO_PRESENT = (
    "Put this in the present tense: {s}",
    "Rewrite in the present tense: {s}",
    "{s}\nSay it in the present.",
)
PRESENT_TO_PAST = ("Put this in the past tense: {s}", "Rewrite in the past tense: {s}", "{s}\nSay it in the past.")
REPLACE = ("Replace {x} with {y}: {s}", "Change the word {x} to {y}: {s}", "{s}\nWrite {y} instead of {x}.",
           "Rewrite this with {y} in place of {x}: {s}")  # fmt: skip
SWAP = ("Swap the two names: {s}", "Exchange the names in this sentence: {s}", "{s}\nSwap the people.")
PASSIVE = ("Make this passive: {s}", "Rewrite in the passive voice: {s}", "{s}\nTurn it into the passive.")
NEGATE = ("Make this negative: {s}", "Say the opposite with not: {s}", "{s}\nNegate the sentence.")
ASK = ("Turn this into a question: {s}", "Make a yes-or-no question: {s}", "{s}\nAsk whether it is so.")
DROP = ("Remove the word {x}: {s}", "Leave out {x}: {s}", "{s}\nDelete {x}.")
TIDY = ("Remove the filler words: {s}", "Clean up this spoken sentence: {s}", "{s}\nWrite it without fillers.")
POLITE = ("Make this polite: {s}", "Add please: {s}", "{s}\nSay it politely.")
COPY = ("Repeat this: {s}", "Copy this sentence: {s}", "{s}\nWrite it again.")


def _sentence(rng: random.Random, split: str) -> dict[str, str]:
    verb = rng.choice(sorted(words.VERBS))
    past, present, _, participle = words.VERBS[verb]
    name, other = words.people(rng, split, 2)
    return {
        "n": name, "m": other, "v": verb, "past": past, "present": present, "participle": participle,
        "adj": rng.choice(words.ADJECTIVES), "o": rng.choice(words.THINGS),
        "where": rng.choice(
            (f"in the {rng.choice(words.ROOMS)}", f"at the {rng.choice(words.PLACES)}", f"on {rng.choice(words.DAYS)}")
        ),
    }  # fmt: skip


def _tense(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    frame = rng.choice(("{n} %s the {o} {where}.", "{n} %s the {adj} {o}.", "{n} and {m} are here. {n} %s the {o}."))
    past, present = (frame % tense for tense in ("{past}", "{present}"))
    if "are here" in frame:
        past = past.replace("are here", "were here")
    if rng.random() < 0.5:
        return rng.choice(PAST_TO_PRESENT), past, present
    return rng.choice(PRESENT_TO_PAST), present, past


def _replace(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    old = rng.choice(("n", "o", "adj"))
    pool = {"n": words.NAMES, "o": words.THINGS, "adj": words.ADJECTIVES}[old]
    new = rng.choice([word for word in pool if word not in s.values()])
    s["x"], s["y"] = s[old], new
    before = "{n} {past} the {adj} {o} {where}."
    return rng.choice(REPLACE), before, before.replace("{" + old + "}", "{y}")


def _swap(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    before = rng.choice(
        ("{n} gave the {o} to {m}.", "{n} saw {m} {where}.", "{n} is taller than {m}.", "{n} called {m}.")
    )
    after = before.replace("{n}", "{t}").replace("{m}", "{n}").replace("{t}", "{m}")
    return rng.choice(SWAP), before, after


def _passive(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    return rng.choice(PASSIVE), "{n} {past} the {o}.", "The {o} was {participle} by {n}."


def _negate(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    before, after = rng.choice(
        (("The {o} is {adj}.", "The {o} is not {adj}."), ("{n} was {where}.", "{n} was not {where}."),
         ("{n} will {v} the {o}.", "{n} will not {v} the {o}."), ("{n} can {v} it.", "{n} can not {v} it."))
    )  # fmt: skip
    return rng.choice(NEGATE), before, after


def _ask(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    before, after = rng.choice(
        (("The {o} is {adj}.", "Is the {o} {adj}?"), ("{n} was {where}.", "Was {n} {where}?"),
         ("{n} will {v} the {o}.", "Will {n} {v} the {o}?"), ("{n} can {v} the {o}.", "Can {n} {v} the {o}?"))
    )  # fmt: skip
    return rng.choice(ASK), before, after


def _drop(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    s["x"] = s["adj"]
    return rng.choice(DROP), "{n} {past} the {adj} {o} {where}.", "{n} {past} the {o} {where}."


def _tidy(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    first, second = rng.choice(words.FILLERS), rng.choice(words.FILLERS)
    plain = rng.choice(
        ("please {v} the {o}", "{n} will {v} the {adj} {o}", "the {o} is {where}", "{v} the {o} {where}")
    )
    parts = plain.split()
    place = rng.randrange(1, len(parts))
    return rng.choice(TIDY), " ".join([first + ",", *parts[:place], second + ",", *parts[place:]]), plain


def _polite(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    before = rng.choice(("{v} the {o}", "{v} the {adj} {o}", "{v} the {o} {where}"))
    return rng.choice(POLITE), before, "please " + before


def _copy(rng: random.Random, s: dict[str, str]) -> tuple[str, str, str]:
    before = rng.choice(("{n} {past} the {adj} {o} {where}.", "{n} and {m} {past} {n}'s {o}."))
    return rng.choice(COPY), before, before


KINDS = (_tense, _replace, _swap, _passive, _negate, _ask, _drop, _tidy, _polite, _copy)


def _one(rng: random.Random, split: str) -> Exchange:
    change = rng.choice(KINDS)
    slots = _sentence(rng, split)
    frame, before, after = change(rng, slots)
    sentence = before.format(**slots)
    ask = frame.format(s=sentence, x=slots.get("x"), y=slots.get("y"))
    return Exchange(ask, after.format(**slots), f"rewriting:{change.__name__[1:]}:{sentence}")


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to four sentences."""
    return several(rng, split, _one, 4)
