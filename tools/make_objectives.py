#!/usr/bin/env python3
"""Write the rows of the recipes for single objectives: pairs for dpo, orpo and a reward model, judged answers for kto,
sums for grpo, raw texts for cpt. Everything is made of the frames of `tools/preference_frames.py`, of our own writing.

The frames of train, validation and test are different ones. `--check` verifies that the committed files are what this
writes.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import preference_frames as frames  # noqa: E402
from tools.base import corpus, words  # noqa: E402
from tools.base.skills import cards  # noqa: E402
from tools.row_files import write_or_check  # noqa: E402

FOLDER = ROOT / "recipes" / "data"
SEED = 23
REPLAYED = ("reading", "arithmetic", "ordering", "rewriting", "knowledge", "extraction")
Row = dict[str, object]
Maker = Callable[[random.Random, str, int], Row]


def _pair(asked: str, chosen: str, rejected: str) -> Row:
    return {"prompt": asked, "chosen": chosen, "rejected": rejected}


def _messages(asked: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def home(rng: random.Random, split: str, place: int) -> Row:
    """A request; what the home does by itself is done, what only a person may switch on is refused."""
    free = place % 2 == 0
    slots = {"d": rng.choice(frames.FREE if free else frames.GUARDED), "r": rng.choice(frames.ROOMS[split])}
    asked = rng.choice(frames.REQUESTS[split]).format(**slots)
    done, refused = frames.DONE.format(**slots), frames.REFUSED.format(**slots)
    return _pair(asked, done, refused) if free else _pair(asked, refused, done)


def home_log(rng: random.Random, split: str, place: int) -> Row:
    """A request and one of the two answers, whichever: how answers look, not when to give which."""
    row = home(rng, split, place)
    return _messages(str(row["prompt"]), str(row[rng.choice(("chosen", "rejected"))]))


def shop_pair(rng: random.Random, split: str, place: int) -> Row:
    """A question about one of two things in a shop; the answer with its unit is liked, the bare number is not."""
    kinds = sorted(frames.AMOUNTS)
    things = rng.sample(words.THINGS, 2)
    numbers = rng.sample(range(2, 60), 2)
    chosen_kinds = [kinds[place % len(kinds)], rng.choice(kinds)]
    facts = [
        rng.choice(frames.AMOUNTS[kind][split][0]).format(t=thing, a=number)
        for kind, thing, number in zip(chosen_kinds, things, numbers, strict=True)
    ]
    question = rng.choice(frames.AMOUNTS[chosen_kinds[0]][split][1]).format(t=things[0])
    rng.shuffle(facts)
    asked = f"Shop: {' '.join(facts)}\nCustomer: {question}"
    return _pair(asked, f"{numbers[0]} {chosen_kinds[0]}", str(numbers[0]))


def shop(rng: random.Random, split: str, place: int) -> Row:
    """One of the two answers, and whether it was liked."""
    row = shop_pair(rng, split, place)
    label = rng.random() < 0.5
    return {"prompt": row["prompt"], "completion": row["chosen" if label else "rejected"], "label": label}


def shop_answer(rng: random.Random, split: str, place: int) -> Row:
    """The liked answer as one to be written."""
    row = shop_pair(rng, split, place)
    return _messages(str(row["prompt"]), str(row["chosen"]))


def letters(rng: random.Random, split: str, place: int) -> Row:
    """A customer's complaint, answered kindly and rudely, one as long as the other."""
    said = frames.COMPLAINTS[sorted(frames.COMPLAINTS)[place % len(frames.COMPLAINTS)]]
    slots = {"t": rng.choice(words.THINGS), "c": rng.choice(words.COLOURS), "day": rng.choice(words.DAYS)}
    asked = rng.choice(frames.WRITES[split]).format(x=rng.choice(said[split]).format(**slots))
    return _pair(asked, frames.SORRY.format(**slots), frames.RUDE.format(**slots))


def replay(rng: random.Random, split: str, place: int) -> Row:
    """Something that the base can do, training side of its corpus: the right answer over that to another question.
    Mixed in, such pairs keep what a preference would otherwise cost."""
    family = REPLAYED[place % len(REPLAYED)]
    first, other = (corpus.SKILLS[family](rng, "train")[0] for _ in range(2))
    while other.answer == first.answer:
        other = corpus.SKILLS[family](rng, "train")[0]
    return _pair(first.ask, first.answer, other.answer)


def notes(rng: random.Random, split: str, place: int) -> Row:
    """A note in words that the base has not seen, and the JSON object that it means."""
    kind = sorted(frames.NOTES)[place % len(frames.NOTES)]
    values = cards._values(rng, "held" if split == "test" else "train")
    said = rng.choice(frames.NOTES[kind][split]).format(**values)
    answer = cards.to_json({key: values[key] for key in cards.NOTES[kind][0]})
    return _messages(rng.choice(cards.TO_JSON).format(s=said), answer)


def logbook(rng: random.Random, split: str, place: int) -> Row:
    """A day in the log of a lighthouse; test days are told in other sentences, with some of the same words."""
    split = "test" if split == "test" else "train"
    events = rng.sample(frames.LOG_EVENTS[split], rng.randint(4, 5 if split == "test" else 7))
    told = [rng.choice(frames.LOG_BEGINS[split]), *events, rng.choice(frames.LOG_ENDS[split])]
    return {"text": " ".join(frame.format(**_log_slots(rng)) for frame in told)}


def _log_slots(rng: random.Random) -> dict[str, object]:
    n, m = words.people(rng, "train", 2)
    return {
        "n": n,
        "m": m,
        "day": rng.choice(words.DAYS),
        "t": words.clock(rng),
        "w": rng.choice(frames.WINDS),
        "f": rng.randint(2, 10),
        "ship": rng.choice(frames.SHIPS),
        "bearing": rng.choice(frames.WINDS),
        "a": rng.randint(2, 30),
        "bar": f"{rng.randint(28, 30)}.{rng.randint(10, 99)}",
    }


# Folder -> {file: (what writes a row, the split whose frames it uses, how many)}.
FILES: dict[str, dict[str, tuple[Maker, str, int]]] = {
    "home": {
        "log": (home_log, "train", 480),
        "train": (home, "train", 480),
        "validation": (home, "validation", 60),
        "test": (home, "test", 150),
    },
    "shop": {
        "train": (shop, "train", 480),
        "validation": (shop, "validation", 60),
        "answers": (shop_answer, "test", 150),
        "test": (shop_pair, "test", 150),
    },
    "letters": {
        "train": (letters, "train", 480),
        "validation": (letters, "validation", 60),
        "test": (letters, "test", 150),
    },
    "notes": {
        "train": (notes, "train", 800),
        "validation": (notes, "validation", 60),
        "test": (notes, "test", 200),
    },
    "replay": {"pairs": (replay, "train", 240)},
    "logbook": {
        "train": (logbook, "train", 300),
        "validation": (logbook, "validation", 40),
        "test": (logbook, "test", 80),
    },
}


def rows(folder: str, name: str) -> list[Row]:
    """The rows of a file, each asking something different from the others."""
    make, split, count = FILES[folder][name]
    rng = random.Random(f"{SEED}:{folder}:{name}")
    found: dict[str, Row] = {}
    place = 0
    while len(found) < count:
        row = make(rng, split, place)
        found.setdefault(asked(row), row)
        place += 1
        if place > 100 * count:
            raise RuntimeError(f"{folder}: the frames of {split} do not make {count} different rows")
    made = list(found.values())
    rng.shuffle(made)
    return made


def asked(row: Row) -> str:
    """What a row asks, its answers left out."""
    messages = row.get("messages")
    return str(messages[0]["content"] if isinstance(messages, list) else row.get("prompt", row.get("text")))


def files() -> dict[str, str]:
    """Path below recipes/data -> content."""
    return {
        f"{folder}/{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(folder, name))
        for folder, named in FILES.items()
        for name in named
    }


def main() -> int:
    """Write or check the files."""
    return write_or_check(files(), "make_objectives.py", FOLDER, __doc__.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
