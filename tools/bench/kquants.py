"""Our kernels against ggml's quantizer: millions of parameters a second, and equal bytes.

    python tools/bench/kquants.py [--types Q4_K,Q6_K] [--threads 1,2] [--targets avx512,avx2,generic] [--seconds 1]
    python tools/bench/kquants.py --identity 64 [--types …] [--base builtin:sprout | FOLDER]

Ours and ggml's run in turns on the same rows in one process, so the ratios of their CPU times hold on a busy machine
too; the rates do not. A target is what numba compiles for: a process of its own with NUMBA_CPU_NAME. A cell of the
table takes `--seconds`, and compiling the first time a few more a type and target; each line comes when it is known.
With --identity N nothing is timed: N million parameters of each type and mode are compared byte for byte (normal, long
tails, sub-blocks of very different sizes, any bits at all, the weights of a base, and edge cases), on all cores.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
sys.path.append(str(Path(__file__).parents[2]))  # this folder's gguf.py must not hide the gguf package

from edgeft.exporters.gguf import ggml  # noqa: E402
from edgeft.exporters.gguf.kquants.formats import FORMATS  # noqa: E402
from edgeft.exporters.gguf.kquants.source import Rows  # noqa: E402

WIDTH = 1024
# numba's name of a processor, and those of its features that the kernels ask for
TARGETS = {
    "avx512": ("znver4", "+sse4.1,+avx512f"), "avx2": ("haswell", "+sse4.1,+avx2"), "generic": ("x86-64", ""),
    "host": None,
}  # fmt: skip


@dataclass(frozen=True)
class Timed:
    wall: float
    cpu: float

    def best(self, other: Timed) -> Timed:
        return Timed(min(self.wall, other.wall), min(self.cpu, other.cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default=",".join(FORMATS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--targets", default="host", help="of: " + ", ".join(TARGETS))
    parser.add_argument("--million", type=float, default=2, help="parameters of one pass (default 2 million)")
    parser.add_argument("--seconds", type=float, default=1, help="for one cell of the table (two turns at least)")
    parser.add_argument("--identity", type=int, metavar="MILLION", help="compare bytes instead of timing")
    parser.add_argument("--base", default="builtin:sprout", help="with --identity: weights that are compared too")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # the target this process was started for
    given = parser.parse_args()
    names = given.types.upper().split(",")
    if given.identity:
        raise SystemExit(identity(names, given.identity, given.base))
    counts = [int(count) for count in given.threads.split(",")]
    targets = given.targets.split(",")
    if not given.inside:
        title = "".join(f" | {count} thread{'s'[: count - 1]}: ours M/s  ggml M/s   CPU   wall" for count in counts)
        print(f"{'target':8} {'type':7} {'mode':8}{title}", flush=True)
    if targets != ["host"]:
        for target in targets:
            _in_process(target, given)
        return
    for name in names:
        for important in (False, True):
            print(f"{given.inside or 'host':8} {name:7} {'imatrix' if important else 'ref':8}", end="", flush=True)
            for count in counts:
                print(" |" + _cell(name, important, count, given), end="", flush=True)
            print(flush=True)


def _in_process(target: str, given: argparse.Namespace) -> None:
    """This benchmark again, with kernels compiled for another processor."""
    named = dict(zip(("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"), TARGETS[target] or (), strict=False))
    command = [sys.executable, __file__, "--inside", target, "--types", given.types, "--threads", given.threads]
    command += ["--million", str(given.million), "--seconds", str(given.seconds)]
    subprocess.run(command, env=os.environ | named, check=True)


# --- speed ----------------------------------------------------------------------------------------------------------


def _cell(name: str, important: bool, threads: int, given: argparse.Namespace) -> str:
    generator = np.random.default_rng(0)
    count = max(threads, int(given.million * 1e6) // WIDTH)
    values = generator.standard_normal((count, WIDTH), dtype=np.float32) * np.float32(0.02)
    weights = generator.gamma(0.5, 1.0, WIDTH).astype(np.float32) if important else None
    ours, theirs = _ours(name, values[:64], weights), ggml.encoded(name, values[:64], weights)
    assert np.array_equal(ours, theirs), f"{name}: other bytes than ggml's"
    mine = other = Timed(float("inf"), float("inf"))
    with ThreadPoolExecutor(threads) as pool:
        end, turns = time.perf_counter() + given.seconds, 0
        while turns < 2 or time.perf_counter() < end:
            mine = mine.best(_timed(pool, threads, values, lambda part: _ours(name, part, weights)))
            other = other.best(_timed(pool, threads, values, lambda part: ggml.encoded(name, part, weights)))
            turns += 1
    rate, its = values.size / 1e6 / mine.wall, values.size / 1e6 / other.wall
    return f" {' ' * 9} {rate:8.1f} {its:9.1f} {other.cpu / mine.cpu:6.1f}x {other.wall / mine.wall:5.1f}x"


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

Piece = tuple[str, Any, Any]  # what kind of values, float32 rows, importance


def identity(names: list[str], million: int, base: str) -> int:
    """Compare bytes, print a line per type and mode; 1 when any differ."""
    from edgeft.models.base import resolve

    folder, different = resolve(base), 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name in names:
            for important in (False, True):
                started = time.perf_counter()
                sizes: dict[str, int] = {}
                left = wrong = 0
                jobs = _jobs(name, million, folder, important)
                for kind, size, odd, off in pool.map(partial(_compared, name), jobs):
                    sizes[kind] = sizes.get(kind, 0) + size
                    left, wrong = left + odd, wrong + off
                different += wrong
                total = sum(sizes.values())
                mode, seconds = "imatrix" if important else "ref", time.perf_counter() - started
                print(
                    f"{name:7} {mode:8} {total / 1e6:7.1f} M parameters, {wrong} bytes differ; ggml did "
                    f"{left / (total // FORMATS[name].size):.3%} of the blocks; {seconds:.0f} s  {json.dumps(sizes)}",
                    flush=True,
                )
    return int(different > 0)


def _compared(name: str, job: Callable[[], Piece]) -> tuple[str, int, int, int]:
    """(kind, how many values, blocks that ggml did, bytes that differ)."""
    from edgeft.exporters.gguf.kquants.run import encode

    kind, values, weights = job()
    wanted = ggml.encoded(name, values, weights)
    made = np.empty_like(wanted)
    left = encode(name, Rows(values), weights, made, ggml.encoded)
    return kind, values.size, left, int((made != wanted).sum())


def _jobs(name: str, million: int, base: Path, important: bool) -> Iterator[Callable[[], Piece]]:
    """Makers of pieces: `million` of a million values each, then the base's weights and edge cases."""
    from edgeft.exporters.gguf.kquants import trust
    from tests.exporters.gguf.kquants.odd import importances, odd_rows

    for number in range(million):
        yield lambda number=number: _made(number, important)
    for values, weights in trust.cases():
        if (weights is not None) == important:
            yield lambda values=values, weights=weights: ("self-check", values, weights)
    size = FORMATS[name].size
    for weights in importances(size) if important else (None,):
        yield lambda weights=weights: ("edge cases", odd_rows(size), weights)
    for values in _checkpoint(base, size):
        yield lambda values=values: ("base", values, _importance(0, values.shape[1]) if important else None)


KINDS = ("normal", "tails", "sizes", "bits")


def _made(number: int, important: bool) -> Piece:
    """A million values of one kind; any bits at all in one piece of sixteen, since ggml does nearly all of those."""
    generator = np.random.default_rng(number)
    shape = (1_000_000 // WIDTH + 1, WIDTH)
    kind = "bits" if number % 16 == 15 else KINDS[number % 3]
    values = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    if kind == "tails":
        values = (generator.standard_t(2, shape) * 0.01).astype(np.float32)
    elif kind == "sizes":
        sizes = np.exp2(generator.integers(-2, 3, (shape[0], WIDTH // 16))).astype(np.float32)
        values = values * np.repeat(sizes, 16, axis=1)
    elif kind == "bits":
        values = generator.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
    return kind, values, _importance(number, WIDTH) if important else None


def _importance(number: int, width: int) -> Any:
    """An importance of `width` columns; in every third a tenth of them has none."""
    generator = np.random.default_rng(number)
    weights = generator.gamma(0.5, 1.0, width).astype(np.float32)
    if number % 3 == 0:
        weights[generator.random(width) < 0.1] = 0
    return weights


def _checkpoint(base: Path, size: int) -> Iterator[Any]:
    from edgeft.weights import open_weights

    for tensor in open_weights(base).values():
        if len(tensor.shape) == 2 and tensor.shape[1] % size == 0:
            for chunk in tensor.chunks():
                yield chunk.float().numpy()


if __name__ == "__main__":
    main()
