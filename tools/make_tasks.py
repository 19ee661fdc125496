#!/usr/bin/env python3
"""Write the rows of the task recipes: classification, brand voice, summaries, orders to JSON, cited answers, tools.
Everything is made of the sentence frames of `tools/task_frames.py` and `tools/reading_frames.py`, our own writing.

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

from tools import reading_tasks  # noqa: E402
from tools import task_frames as frames  # noqa: E402
from tools.base import words  # noqa: E402
from tools.row_files import write_or_check  # noqa: E402

FOLDER = ROOT / "recipes" / "data"
SEED = 11
SIZES = {"train": 480, "validation": 60, "test": 150}
LARGER = {"extraction": 900, "citations": 900, "tools": 600}  # training rows of what takes more of them to learn
Row = dict[str, object]


def _messages(asked: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def classification(rng: random.Random, split: str, place: int) -> Row:
    """What a customer's message is about."""
    label = sorted(frames.TICKETS)[place % len(frames.TICKETS)]
    frame = rng.choice(frames.TICKETS[label][split])
    thing, colour, day = rng.choice(words.THINGS), rng.choice(words.COLOURS), rng.choice(words.DAYS)
    opening = rng.choice(frames.OPENINGS)
    return {"text": opening + frame.format(thing=thing, colour=colour, day=day), "label": label}


def voice(rng: random.Random, split: str, place: int) -> Row:
    """A plain sentence about an order, said in the voice of a shop by the sea."""
    slots = {"thing": rng.choice(words.THINGS), "day": rng.choice(words.DAYS), "colour": rng.choice(words.COLOURS)}
    asked, answer = frames.VOICE[place % len(frames.VOICE)]
    return _messages(rng.choice(frames.VOICE_FRAMES[split]).format(said=asked.format(**slots)), answer.format(**slots))


def summarization(rng: random.Random, split: str, place: int) -> Row:
    """A meeting's notes and what was decided in it."""
    slots = {"name": rng.choice(words.NAMES), "thing": rng.choice(words.THINGS), "day": rng.choice(words.DAYS)}
    kind, verb = rng.choice(sorted(frames.DUTIES.items()))
    decided = rng.choice(frames.DECIDED[split]).format(verb=verb, **slots)
    idle = [frame.format(name=rng.choice(words.NAMES)) for frame in rng.sample(frames.IDLE[split], 2)]
    idle.insert(rng.randint(0, 2), decided)
    answer = "{name}: {kind} the {thing} by {day}".format(kind=kind, **slots)
    return _messages("Summarize the notes.\n" + " ".join(idle), answer)


TASKS: dict[str, Callable[[random.Random, str, int], Row]] = {
    "classification": classification,
    "voice": voice,
    "summarization": summarization,
    "extraction": reading_tasks.extraction,
    "citations": reading_tasks.citations,
    "tools": reading_tasks.tools,
}


def rows(task: str, split: str) -> list[Row]:
    """The rows of a split, each different from the others."""
    rng = random.Random(f"{SEED}:{task}:{split}")
    size = LARGER.get(task, SIZES[split]) if split == "train" else SIZES[split]
    found: dict[str, Row] = {}
    place = 0
    while len(found) < size:
        row = TASKS[task](rng, split, place)
        found.setdefault(json.dumps(row, sort_keys=True), row)
        place += 1
        if place > 100 * size:
            raise RuntimeError(f"{task}: the frames of {split} do not make {size} different rows")
    made = list(found.values())
    rng.shuffle(made)
    return made


def files() -> dict[str, str]:
    """Path below recipes/data -> content."""
    return {
        f"{task}/{split}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(task, split))
        for task in TASKS
        for split in SIZES
    }


def main() -> int:
    """Write or check the files."""
    return write_or_check(files(), "make_tasks.py", FOLDER, __doc__.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
