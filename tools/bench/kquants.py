"""Our kernels against ggml's quantizer: millions of parameters a second, and equal bytes.

    python tools/bench/kquants.py [--types Q4_K,Q6_K] [--threads 1,2] [--targets avx512,avx2,generic] [--million 4]
    python tools/bench/kquants.py --identity 64 [--types …] [--base FOLDER]

Ours and ggml's run in turns on the same rows in one process, so the ratios of their CPU times hold on a busy machine
too; the rates do not. A target is what numba compiles for: a process of its own with NUMBA_CPU_NAME. With --identity N
nothing is timed: N million parameters of each type and mode are compared byte for byte (normal, long tails, sub-blocks
of very different sizes, the tensors of a checkpoint folder if one is given, and odd blocks among them).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
sys.path.append(str(Path(__file__).parents[2]))  # this folder's gguf.py must not hide the gguf package

from edgeft.exporters.gguf import ggml  # noqa: E402
from edgeft.exporters.gguf.kquants.formats import FORMATS  # noqa: E402
from edgeft.exporters.gguf.kquants.source import Rows  # noqa: E402

WIDTH = 1024
TARGETS = {"avx512": "znver4", "avx2": "haswell", "generic": "x86-64", "host": ""}


@dataclass(frozen=True)
class Timed:
    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default=",".join(FORMATS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--targets", default="host", help="of: " + ", ".join(TARGETS))
    parser.add_argument("--million", type=float, default=4, help="parameters per run (default 4 million)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--identity", type=float, metavar="MILLION", help="compare bytes instead of timing")
    parser.add_argument("--base", type=Path, help="with --identity: a checkpoint folder whose weights are compared too")
    given = parser.parse_args()
    names = given.types.upper().split(",")
    if given.identity:
        raise SystemExit(identity(names, given.identity, given.base))
    targets = given.targets.split(",")
    if targets != ["host"]:
        for target in targets:
            _in_process(target, given)
        return
    header = (
        f"{'type':7} {'mode':8} {'threads':>7} {'ours M/s':>9} {'ggml M/s':>9} {'CPU ratio':>10} {'wall ratio':>11}"
    )
    print(header, flush=True)
    for name in names:
        for important in (False, True):
            for threads in (int(count) for count in given.threads.split(",")):
                print(_row(name, important, threads, given.million, given.rounds), flush=True)


def _in_process(target: str, given: argparse.Namespace) -> None:
    """This benchmark again, with kernels compiled for another processor."""
    env = os.environ | ({"NUMBA_CPU_NAME": TARGETS[target], "NUMBA_CPU_FEATURES": ""} if TARGETS[target] else {})
    print(f"--- {target} {TARGETS[target]}", flush=True)
    command = [sys.executable, __file__, "--types", given.types, "--threads", given.threads]
    command += ["--million", str(given.million), "--rounds", str(given.rounds)]
    subprocess.run(command, env=env, check=True)


# --- speed ----------------------------------------------------------------------------------------------------------


def _row(name: str, important: bool, threads: int, million: float, rounds: int) -> str:
    generator = np.random.default_rng(0)
    count = max(threads, int(million * 1e6) // WIDTH)
    values = generator.standard_normal((count, WIDTH), dtype=np.float32) * np.float32(0.02)
    weights = generator.gamma(0.5, 1.0, WIDTH).astype(np.float32) if important else None
    ours, theirs = _ours(name, values[:64], weights), ggml.encoded(name, values[:64], weights)
    assert np.array_equal(ours, theirs), f"{name}: other bytes than ggml's"
    best: dict[str, Timed] = {}
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            for who, work in (("ours", _ours), ("ggml", ggml.encoded)):
                timed = _timed(pool, threads, values, lambda part, work=work: work(name, part, weights))
                known = best.get(who, timed)
                best[who] = Timed(min(known.wall, timed.wall), min(known.cpu, timed.cpu))
    mine, other = best["ours"], best["ggml"]
    rate, its = values.size / 1e6 / mine.wall, values.size / 1e6 / other.wall
    return (
        f"{name:7} {'imatrix' if important else 'ref':8} {threads:7} {rate:9.1f} {its:9.1f} "
        f"{other.cpu / mine.cpu:9.1f}x {other.wall / mine.wall:10.1f}x"
    )


def _timed(pool: ThreadPoolExecutor, threads: int, values: Any, work: Callable[[Any], Any]) -> Timed:
    """Wall time of all parts together, CPU time of their threads."""
    parts = np.array_split(values, threads)

    def one(part: Any) -> float:
        start = time.thread_time()
        work(part)
        return time.thread_time() - start

    start = time.perf_counter()
    cpu = sum(pool.map(one, parts))
    return Timed(time.perf_counter() - start, cpu)


def _ours(name: str, values: Any, weights: Any) -> Any:
    from edgeft.exporters.gguf.kquants.run import encode

    out = np.empty((len(values), ggml.row_bytes(name, values.shape[1])), dtype=np.uint8)
    encode(name, Rows(values), weights, out, ggml.encoded)
    return out


# --- identity -------------------------------------------------------------------------------------------------------


def identity(names: list[str], million: float, base: Path | None) -> int:
    """Compare bytes, print a line per type, mode and kind of values; 1 when any differ."""
    from edgeft.exporters.gguf.kquants.run import encode

    different = 0
    for name in names:
        for important in (False, True):
            found: dict[str, list[int]] = {}
            for kind, values, weights in _material(million, base, important):
                wanted = ggml.encoded(name, values, weights)
                made = np.empty_like(wanted)
                left = encode(name, Rows(values), weights, made, ggml.encoded)
                tally = found.setdefault(kind, [0, 0, 0])
                tally[0] += values.size
                tally[1] += left
                tally[2] += int((made != wanted).sum())
            total = sum(tally[0] for tally in found.values())
            wrong = sum(tally[2] for tally in found.values())
            different += wrong
            blocks = total // FORMATS[name].size
            detail = {kind: tally[0] for kind, tally in found.items()}
            by_ggml = sum(tally[1] for tally in found.values()) / blocks
            mode = "imatrix" if important else "ref"
            print(
                f"{name:7} {mode:8} {total / 1e6:7.1f} M parameters, {wrong} bytes differ; "
                f"ggml did {by_ggml:.3%} of the blocks  {json.dumps(detail)}",
                flush=True,
            )
    return int(different > 0)


def _material(million: float, base: Path | None, important: bool) -> Iterator[tuple[str, Any, Any]]:
    """(kind, float32 rows, importance), in pieces of a million values until there are `million`."""
    from edgeft.exporters.gguf.kquants import trust

    generator = np.random.default_rng(7)
    shape = (1_000_000 // WIDTH + 1, WIDTH)
    pieces = int(million)
    for number in range(pieces):
        weights = generator.gamma(0.5, 1.0, WIDTH).astype(np.float32) if important else None
        if weights is not None and number % 3 == 0:
            weights[generator.random(WIDTH) < 0.1] = 0
        kind = ("normal", "tails", "sizes")[number % 3]
        values = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        if kind == "tails":
            values = (generator.standard_t(2, shape) * 0.01).astype(np.float32)
        elif kind == "sizes":
            sizes = np.exp2(generator.integers(-2, 3, (shape[0], WIDTH // 16))).astype(np.float32)
            values = values * np.repeat(sizes, 16, axis=1)
        yield kind, values, weights
    for values, weights in trust.cases():
        if (weights is not None) == important:
            yield "self-check", values, weights
    for values in _checkpoint(base) if base else ():
        weights = generator.gamma(0.5, 1.0, values.shape[1]).astype(np.float32) if important else None
        yield "checkpoint", values, weights


def _checkpoint(base: Path) -> Iterator[Any]:
    from edgeft.weights import open_weights

    for tensor in open_weights(base).values():
        if len(tensor.shape) == 2 and tensor.shape[1] % 256 == 0:
            for chunk in tensor.chunks():
                yield chunk.float().numpy()


if __name__ == "__main__":
    main()
