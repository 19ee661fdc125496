#!/usr/bin/env python3
"""Write the quickstart's data: spoken-style household commands and the JSON tool call each one means.

The sentence frames of train, validation and test are different ones, not only their slot values: a model that passes
the test has understood commands, not memorised sentences. `--check` verifies that the committed files are what this
writes.
"""

import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.base import corpus  # noqa: E402
from tools.household_frames import (  # noqa: E402
    AFTER,
    BEFORE,
    BEFORE_STATEMENT,
    CORRECTED_SHARE,
    CORRECTIONS,
    DEVICES,
    DOORS,
    GENRES,
    GROCERIES,
    ROOMS,
    SYSTEM,
    TOOLS,
)
from tools.row_files import write_or_check  # noqa: E402

FOLDER = ROOT / "recipes" / "data" / "household"
SEED = 7
SIZES = {"train": 1000, "validation": 120, "test": 200}
REPLAY_ROWS = 480
REPLAYED = ("reading", "arithmetic", "ordering", "rewriting", "knowledge", "extraction")
RANGES = {"level": (1, 20, 5), "degrees": (15, 28, 1), "minutes": (2, 90, 1), "volume": (1, 30, 1), "count": (2, 12, 1)}


def _number(rng: random.Random, argument: str) -> int:
    low, high, step = RANGES[argument]
    return rng.randint(low, high) * step


def _slots(rng: random.Random, arguments: tuple[str, ...]) -> tuple[dict[str, str], dict[str, object]]:
    """The words of the sentence and the arguments of the call."""
    said: dict[str, str] = {}
    call: dict[str, object] = {}
    pools = {
        "room": ("r", ROOMS),
        "device": ("d", DEVICES),
        "genre": ("g", GENRES),
        "door": ("o", DOORS),
        "item": ("i", GROCERIES),
    }
    for argument in arguments:
        if argument in pools:
            slot, pool = pools[argument]
            said[slot] = call[argument] = rng.choice(pool)
        elif argument in RANGES:
            call[argument] = _number(rng, argument)
            said["n"] = str(call[argument])
        elif argument == "time":
            said["t"] = call["time"] = f"{rng.randint(1, 12)}:{rng.randrange(0, 60, 5):02d}"
    return said, call


def _state(rng: random.Random, tool: str) -> tuple[dict[str, str], str]:
    """The word for the wanted state as it is said, and as the call has it."""
    slot, choices = {
        "set_power": ("s", (("on", "on"), ("off", "off"))),
        "set_door": ("l", (("lock", "locked"), ("unlock", "unlocked"))),
        "set_blinds": ("c", (("open", "open"), ("close", "closed"))),
    }[tool]
    said, state = rng.choice(choices)
    return {slot: said}, state


def command(rng: random.Random, split: str, tool: str, frame: str) -> tuple[str, str]:
    """One command in this frame and its tool call."""
    arguments, _ = TOOLS[tool]
    said, call = _slots(rng, arguments)
    if "state" in arguments:
        words, call["state"] = _state(rng, tool)
        said |= words
    statement = frame.startswith("=")
    text = rng.choice(BEFORE_STATEMENT if statement else BEFORE) + frame.lstrip("=").format(**said)
    if "n" in said and rng.random() < CORRECTED_SHARE:
        argument = next(a for a in arguments if a in RANGES)
        call[argument] = _number(rng, argument)
        text += rng.choice(CORRECTIONS[split]).format(m=call[argument])
    else:
        text += rng.choice(AFTER)
    answer = json.dumps({"tool": tool} | {a: call[a] for a in arguments}, separators=(",", ":"))
    return text, answer


def rows(split: str) -> list[dict]:
    """The rows of a split: tools and frames in equal shares, every sentence once."""
    rng = random.Random(f"{SEED}:{split}")
    frames = [(tool, frame) for tool, (_, by_split) in TOOLS.items() for frame in by_split[split]]
    found: dict[str, str] = {}
    while len(found) < SIZES[split]:
        rng.shuffle(frames)
        for tool, frame in frames:
            text, answer = command(rng, split, tool, frame)
            if len(found) < SIZES[split]:
                found.setdefault(text, answer)
    pairs = list(found.items())
    rng.shuffle(pairs)
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": text},
                {"role": "assistant", "content": answer},
            ]
        }
        for text, answer in pairs
    ]


def replay() -> list[dict]:
    """General rows from the grammars of the base's corpus, training side only: mixed in, they prevent forgetting."""
    rng = random.Random(f"{SEED}:replay")
    written = []
    for place in range(REPLAY_ROWS):
        family = REPLAYED[place % len(REPLAYED)]
        exchanges = corpus.SKILLS[family](rng, "train")[:2]
        written.append({"messages": corpus.Row(exchanges=tuple(exchanges)).messages()})
    return written


def shared_frames() -> list[str]:
    """Frames that stand in more than one split, or twice in one: must be none."""
    seen: set[str] = set()
    twice = []
    for _, by_split in TOOLS.values():
        for frames in by_split.values():
            for frame in frames:
                plain = frame.lstrip("=")
                if plain in seen:
                    twice.append(plain)
                seen.add(plain)
    return twice


def files() -> dict[str, str]:
    """File name -> content."""
    written = {}
    for split in SIZES:
        written[f"{split}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(split))
    written["replay.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in replay())
    return written


def main() -> int:
    """Write or check the files."""
    if twice := shared_frames():
        print(f"frames used twice: {twice}", file=sys.stderr)
        return 1
    return write_or_check(files(), "make_household.py", FOLDER, __doc__.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
