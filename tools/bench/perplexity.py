"""Perplexity and KL divergence of a GGUF file by llama.cpp's own definition, beside what its perplexity tool prints.

    python tools/bench/perplexity.py REFERENCE.gguf FILE.gguf [--text FILE] [--window 128] [--tool llama-perplexity]

Without --text the neutral texts packaged with edgeft are read. With --tool (or EDGEFT_LLAMA_PERPLEXITY) the tool of a
llama.cpp build is run on the same files, text and windows. The tool keeps the reference's log probabilities in 16 bits,
so its KL differs from the exact one in the fourth digit or so; perplexities agree to the last digit that it prints.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]

from edgeft.evals.drift import texts  # noqa: E402
from edgeft.evals.windows import divergence, perplexity, windows  # noqa: E402
from edgeft.runtimes import open_runtime  # noqa: E402


def neutral() -> str:
    """The packaged neutral texts as one."""
    return "\n\n".join(case.expected for case in texts())


def ours(reference: Path, file: Path, text: str, size: int) -> dict[str, float]:
    with open_runtime(reference, threads=1) as first, open_runtime(file, threads=1) as second:
        rows = windows(first.encode(text), size)
        found = divergence(first, second, rows)
        return {
            "reference perplexity": perplexity(first, rows),
            "perplexity": perplexity(second, rows),
            "mean KL": found["mean_kl"],
            "99.9 % KL": found["p999_kl"],
            "same top": found["top1_agreement"],
        }


def tools(tool: str, reference: Path, file: Path, text: str, size: int) -> dict[str, float]:
    """What llama.cpp's tool prints."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_text(text, encoding="utf-8")
        kept = str(Path(folder) / "logits")
        asked = ["-f", str(Path(folder) / "text"), "-c", str(size), "-b", str(size), "-t", "1", "--no-warmup"]
        first = _run([tool, "-m", str(reference), *asked, "--kl-divergence-base", kept], "Final estimate")
        second = _run([tool, "-m", str(file), *asked, "--kl-divergence-base", kept, "--kl-divergence"], "Same top p")
    return {
        "reference perplexity": _number(r"Final estimate: PPL = +([\d.]+)", first),
        "perplexity": _number(r"Mean PPL\(Q\) +: +([\d.]+)", second),
        "mean KL": _number(r"Mean +KLD: +([\d.]+)", second),
        "99.9 % KL": _number(r"99.9% +KLD: +([\d.]+)", second),
        "same top": _number(r"Same top p: +([\d.]+)", second) / 100,
    }


def _run(command: list[str], wanted: str) -> str:
    """What the tool says. Its log has a thread of its own, and on a busy machine its last lines may be lost: again."""
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
        if wanted in done.stdout + done.stderr:
            return done.stdout + done.stderr
    sys.exit(f"{command[0]} did not say {wanted!r}")


def _number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    return float(match[1]) if match else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--tool", default=os.environ.get("EDGEFT_LLAMA_PERPLEXITY"))
    given = parser.parse_args()
    text = given.text.read_text(encoding="utf-8") if given.text else neutral()
    found = ours(given.reference, given.file, text, given.window)
    theirs: dict[str, Any] = tools(given.tool, given.reference, given.file, text, given.window) if given.tool else {}
    print(f"{'':22} {'edgeft':>12}" + (f" {'llama.cpp':>12}" if theirs else ""))
    for name, value in found.items():
        print(f"{name:22} {value:12.6f}" + (f" {theirs[name]:12.6f}" if theirs else ""))


if __name__ == "__main__":
    main()
