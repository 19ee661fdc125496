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
    """Numbered passages and a question; the answer is a word of one of them, then that passage with its number."""
    kinds = rng.sample(sorted(frames.FACTS), 3)
    people, numbers = rng.sample(words.NAMES, 3), rng.sample(range(1, 10), 3)
    told = [_fact(rng, kind, name) for kind, name in zip(kinds, people, strict=True)]
    passages = [f"{values['said']} [{number}]" for values, number in zip(told, numbers, strict=True)]
    which = rng.randrange(3)
    fact: dict[str, Any] = frames.FACTS[kinds[which]]
    question = rng.choice(fact[split]).format(**told[which])
    asked = "\n".join([*(f"{passage}." for passage in passages), question])
    answer = f"{told[which][fact['answer']]}: {passages[which]}"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


POOLS = {
    "city": (words.CITIES, ()), "job": (words.JOBS, ()), "colour": (words.COLOURS, words.THINGS),
    "food": (words.FOODS, ()), "day": (words.DAYS, ()), "put": (words.THINGS, words.CONTAINERS),
}  # fmt: skip


def _fact(rng: random.Random, kind: str, name: str) -> dict[str, str]:
    first, second = POOLS[kind]
    values = {"n": name, "a": rng.choice(first), "b": rng.choice(second) if second else ""}
    values["an_a"] = words.article(values["a"])
    return {**values, "said": rng.choice(frames.FACTS[kind]["said"]).format(**values)}


def tools(rng: random.Random, split: str, place: int) -> Row:
    """A request and the tools that there are; the call that it takes. Half of the rows of every split begin with
    another request, its call, the tool's result and what was made of it; of the rows to train on half end with such an
    answer."""
    offered = {kind: rng.choice(frames.TOOLS[kind]["names"]) for kind in rng.sample(sorted(frames.TOOLS), 3)}
    first, second = rng.sample(list(offered.items()), 2)
    turns = _used(rng, split, *first) if place % 2 else []
    last = _used(rng, split, *second)
    turns += last if split == "train" and rng.random() < 0.5 else last[:2]
    return {"tools": [_described(kind, name) for kind, name in offered.items()], "messages": turns}


def _described(kind: str, name: str) -> dict[str, Any]:
    """A tool in OpenAI's form."""
    kinds = {"count": "integer"}
    properties = {key: {"type": kinds.get(key, "string")} for key in frames.TOOLS[kind]["arguments"]}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _used(rng: random.Random, split: str, kind: str, name: str) -> list[dict[str, Any]]:
    """A request, the call, the tool's result, the answer."""
    tool: dict[str, Any] = frames.TOOLS[kind]
    slots = {
        "city": rng.choice(words.CITIES), "day": rng.choice(words.DAYS), "name": rng.choice(words.NAMES),
        "item": rng.choice(words.COUNTED), "count": rng.randint(2, 30), "by": rng.choice(words.VEHICLES),
        "thing": rng.choice(words.THINGS), "place": rng.choice(words.CONTAINERS), "number": rng.randint(2, 30),
    }  # fmt: skip
    call = {"name": name, "arguments": {key: slots[key] for key in tool["arguments"]}}
    return [
        {"role": "user", "content": rng.choice(tool[split]).format(**slots)},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": call}]},
        {"role": "tool", "name": name, "content": tool["result"].format(**slots)},
        {"role": "assistant", "content": tool["answer"].format(**slots)},
    ]
