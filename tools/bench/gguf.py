"""Base and LoRA of real shape to GGUF in one pass, type by type, each in a fresh process; beside it the stock route.

    python tools/bench/gguf.py [--shape q06] [--types q8_0,q4_k_m,q6_k,iq4_xs] [--stock] [--folder WHERE] [--threads N]

The claim to check: peak memory is a constant plus at most one tensor in float32, and nothing but the result is written.
With --stock (needs llama-cpp-python's source package, see tools/llama_cpp_source.py) peft's merge, llama.cpp's
converter and its quantizer run too, and the ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent] + [
    str(Path(__file__).parent)
]  # this file must not hide the gguf package

sys.path.append(str(Path(__file__).parents[2]))

from measured import HEADER, Measured, measure  # noqa: E402
from stock import merged_and_converted, quantized, together  # noqa: E402
from synthetic import SHAPES, make_base, make_lora, quantized_training  # noqa: E402

from edgeft.exporters.gguf.types import TYPES  # noqa: E402
from tools.llama_cpp_source import unpacked  # noqa: E402

_EDGEFT = """
import sys
from pathlib import Path
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
base, adapter, merge_base, type_name, out, threads = sys.argv[1:]
Path(out).mkdir()
export(ExportSource(Path(base), Path(adapter), merge_base=merge_base), type_name, Path(out), {"threads": int(threads)})
"""
_IMPORTS = "import torch, numpy, gguf, llama_cpp, edgeft.exporters.gguf.export"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="q06")
    parser.add_argument("--types", default="f16,q8_0,q4_k_m")
    parser.add_argument("--merge-base", default="pristine,dequantized", help="dequantized needs bitsandbytes")
    parser.add_argument("--stock", action="store_true", help="also the route of peft, converter and quantizer")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    with tempfile.TemporaryDirectory(dir=given.folder) as where:
        work = Path(where)
        base, adapter = make_base(work / "base", shape), make_lora(work / "adapter", shape)
        quantized_training(adapter, shape)
        largest = 4 * max(shape.vocab * shape.hidden, shape.intermediate * shape.hidden)
        print(f"{given.shape}: largest tensor in float32 {largest / 1e6:.0f} MB; {given.threads} threads")
        print(HEADER)
        idle = measure(_IMPORTS)
        print(idle.row("imports alone"), flush=True)
        ours: dict[str, Measured] = {}
        for merge_base in given.merge_base.split(","):
            for type_name in given.types.split(","):
                out = work / f"{merge_base}-{type_name}"
                done = measure(_EDGEFT, str(base), str(adapter), merge_base, type_name, str(out), str(given.threads))
                ours.setdefault(type_name, done)
                print(done.row(f"{type_name}, {merge_base}"))
                _judge(done, idle, largest, out)
        if given.stock:
            _compare(base, adapter, work, ours, given.threads)


def _judge(done: Measured, idle: Measured, largest: int, out: Path) -> None:
    """How the peak compares with a float32 tensor; removes the file."""
    path = next(out.glob("*.gguf"))
    size, over = path.stat().st_size, done.peak - idle.peak
    path.unlink()
    word = "less" if over < largest else "MORE"
    print(
        f"{'':28} {over / 1e6:.0f} MB above the imports: {word} than the largest tensor in float32; "
        f"the file has {size / 1e6:.0f} MB",
        flush=True,
    )


def _compare(base: Path, adapter: Path, work: Path, ours: dict[str, Measured], threads: int) -> None:
    """Measure the stock route for the same types, and print how many times ours it takes."""
    (work / "source").mkdir()
    source = unpacked(work / "source")
    if source is None:
        raise SystemExit("the source package of llama-cpp-python cannot be downloaded; EDGEFT_LLAMA_CPP names a copy")
    shared = merged_and_converted(source, base, adapter, work, threads)
    for name, step in shared.items():
        print(step.row(name), flush=True)
    for type_name, mine in ours.items():
        step = quantized(work, TYPES[type_name].number, threads)
        theirs = together([*shared.values(), step])
        print(step.row(f"quantize {type_name}"))
        print(theirs.row(f"stock route {type_name}"))
        wall, cpu = theirs.seconds / mine.seconds, theirs.cpu_seconds / mine.cpu_seconds
        peak, written = theirs.peak / mine.peak, theirs.written / mine.written
        print(
            f"{'':28} stock / ours: {wall:.2f}x wall, {cpu:.2f}x CPU, {peak:.1f}x peak, {written:.1f}x written",
            flush=True,
        )


if __name__ == "__main__":
    main()
