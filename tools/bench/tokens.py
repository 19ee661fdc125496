"""Tokens a second of several exports of one model, in turns, so that a busy machine slows all of them alike.

    python tools/bench/tokens.py FILE_OR_FOLDER… [--tokens 32] [--rounds 5] [--threads 1]

Prints the median of the rounds, and its share of the first one's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]  # gguf.py and onnx.py
from edgeft.runtimes import open_runtime  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    opened = [open_runtime(path, threads=given.threads) for path in given.files]
    for runtime in opened:
        runtime.stop_ids = ()  # every answer has the same length
    speeds: list[list[float]] = [[] for _ in opened]
    for _ in range(given.rounds):
        for runtime, found in zip(opened, speeds, strict=True):
            prompt = runtime.encode("What is 3 plus 4?")
            start = time.perf_counter()
            runtime.generate([prompt], max_tokens=given.tokens)
            found.append(given.tokens / (time.perf_counter() - start))
    first = statistics.median(speeds[0])
    for path, runtime, found in zip(given.files, opened, speeds, strict=True):
        middle = statistics.median(found)
        print(f"{runtime.name:16} {middle:9.1f} tokens/s {middle / first:6.2f}x  {path}")


if __name__ == "__main__":
    main()
