#!/usr/bin/env python3
"""Memory of the data stage by the number of rows: python tools/bench/data.py [--rows 500000] [--skip-near]

Conversations of the quickstart's kind, each said otherwise, with some exact duplicates; every check at its default but
those (they are dropped), a validation split, sprout's tokenizer. The stage runs in processes of its own, on a fifth of
the rows and on all of them: the peak of each, and the bytes that a row more costs. `--skip-near` leaves the search for
near duplicates out.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
THINGS = [f"{kind}-{number}" for kind in ("lamp", "blind", "door", "heater", "fan") for number in range(400)]
PLACES = [
    f"{floor} {room}" for floor in ("upper", "lower", "front", "back") for room in ("hall", "bath", "attic", "den")
]
ACTIONS = ["on", "off", "open", "closed", "locked", "dimmed"]


def write_rows(path: Path, count: int) -> None:
    """Rows one by one: one in fifty is an earlier one again."""
    draw = random.Random(0)
    kept: list[dict[str, object]] = []
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            row = _row(draw, number)
            if number % 50 == 7 and kept:
                row = draw.choice(kept)
            elif number < 20_000:
                kept.append(row)
            stream.write(json.dumps(row) + "\n")


def _row(draw: random.Random, number: int) -> dict[str, object]:
    thing, place, action = draw.choice(THINGS), draw.choice(PLACES), draw.choice(ACTIONS)
    words = " ".join(draw.choice(THINGS) for _ in range(draw.randrange(0, 12)))
    said = f"Please set the {thing} in the {place} to {action} now, and leave {words} alone ({number})."
    answer = json.dumps({"tool": "set", "device": thing, "room": place, "state": action})
    return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]}


def side(rows: int, near: bool) -> dict[str, float]:
    """Run the stage on so many rows in this process."""
    import resource

    from edgeft.models.base import resolve
    from edgeft.models.tokenizer import load_tokenizer
    from edgeft.pipeline.stage import Inputs, Work
    from edgeft.recipe.dataset import ChecksSection
    from edgeft.stages import data as stage

    base = resolve("builtin:sprout")
    load_tokenizer(base)  # what the process needs in any case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checks = ChecksSection(duplicates="drop", **({} if near else {"near_duplicates": "skip", "near_leakage": "skip"}))
    entry = {"path": "rows.jsonl", "type": "messages"}
    params = stage.Params(datasets=[entry], val_set_size=0.01, sequence_len=512, checks=checks)  # type: ignore[list-item]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_rows(folder / "rows.jsonl", rows)
        for name in ("out", "scratch"):
            (folder / name).mkdir()
        started, cpu = time.perf_counter(), time.process_time()
        sources = {"base": base, "datasets.0": folder / "rows.jsonl"}
        stage.run(params, Inputs(sources=sources), Work(folder / "out", folder / "scratch"))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        size = (folder / "rows.jsonl").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"file": size, "seconds": seconds, "cpu": cpu, "before": before * 1024, "peak": peak * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--skip-near", action="store_true")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.side:
        print(json.dumps(side(told.rows, not told.skip_near)))
        return
    found = []
    print(f"{'rows':>8} {'file MB':>8} {'seconds':>8} {'CPU s':>8} {'before MB':>10} {'peak MB':>8}")
    for rows in (told.rows // 5, told.rows):
        command = [sys.executable, __file__, "--side", "--rows", str(rows)]
        done = subprocess.run([*command, *(["--skip-near"] if told.skip_near else [])], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        one = json.loads(done.stdout.splitlines()[-1])
        found.append(one)
        print(f"{rows:8} {one['file'] / 1e6:8.1f} {one['seconds']:8.1f} {one['cpu']:8.1f} {one['before'] / 1e6:10.0f} "
              f"{one['peak'] / 1e6:8.0f}", flush=True)  # fmt: skip
    growth = (found[1]["peak"] - found[0]["peak"]) / (told.rows - told.rows // 5)
    print(f"{growth:.0f} bytes a row more")


if __name__ == "__main__":
    main()
