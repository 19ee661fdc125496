"""Start-up time of the command line against a bare interpreter, best of many: python tools/bench/start.py

The aim: `edgeft --help` takes less than three times as long as `python -c pass`. Both are measured in one run, in
turns, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """The best of `rounds` seconds of each command, one after the other in each round."""
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            best[name] = min(best[name], seconds(command))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    script = Path(sys.executable).with_name("edgeft")
    best = measure(
        {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import click": [sys.executable, "-c", "import click"],
            "edgeft --version": [str(script), "--version"],
            "edgeft --help": [str(script), "--help"],
            "edgeft run --help": [str(script), "run", "--help"],
        },
        rounds,
    )
    bare = best["python -c pass"]
    for name, value in best.items():
        print(f"{name:20} {1000 * value:6.1f} ms  {value / bare:4.2f}x")


if __name__ == "__main__":
    main()
