"""Rows of the recipes that read something out of what they are given. Used by `tools/make_tasks.py`."""

from __future__ import annotations

import random
from typing import Any

from tools import reading_frames as frames
from tools.base import words

Row = dict[str, Any]


def extraction(rng: random.Random, split: str, place: int) -> Row:
    """An order in words, and its fields as JSON."""
    day = rng.choice(words.DAYS) if rng.random() < 0.6 else None
    slots: dict[str, Any] = {
        "name": rng.choice(words.NAMES),
        "count": rng.randint(2, 30),
        "item": rng.choice(words.COUNTED),
        "city": rng.choice(words.CITIES),
    }
    said = rng.choice(frames.BY_DAY[split]).format(day=day) if day else ""
    frame = frames.ORDERS[split][place % len(frames.ORDERS[split])]
    return {"text": frame.format(day=said, **slots), "json": {**slots, "day": day}}


def citations(rng: random.Random, split: str, place: int) -> Row:
    """Numbered passages and a question; the answer is a word of one of them and that one's number."""
    kinds = rng.sample(sorted(frames.FACTS), 3)
    people = rng.sample(words.NAMES, 3)
    told = [_fact(rng, kind, name) for kind, name in zip(kinds, people, strict=True)]
    which = rng.randrange(3)
    kind, values = kinds[which], told[which]
    question, slot = frames.FACTS[kind][1][place % 2]
    passages = [f"{values['said']} [{number}]." for number, values in enumerate(told, 1)]
    asked = "\n".join([*passages, question.format(**values)])
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": f"{values[slot]}: {values['said']} [{which + 1}]"},
        ]
    }


POOLS = {
    "city": (words.CITIES, ()), "job": (words.JOBS, ()), "colour": (words.COLOURS, words.THINGS),
    "food": (words.FOODS, ()), "day": (words.DAYS, ()), "put": (words.THINGS, words.CONTAINERS),
}  # fmt: skip


def _fact(rng: random.Random, kind: str, name: str) -> dict[str, str]:
    first, second = POOLS[kind]
    values = {"n": name, "a": rng.choice(first), "b": rng.choice(second) if second else ""}
    values["an_a"] = words.article(values["a"])
    return {**values, "said": rng.choice(frames.FACTS[kind][0]).format(**values)}
