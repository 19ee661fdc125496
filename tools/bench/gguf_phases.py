"""Where the time of a GGUF export goes: CPU seconds by kind of work, with ggml's quantizer and with our kernels.

    python tools/bench/gguf_phases.py [--shape q06] [--type q4_k_m] [--threads 2] [--folder WHERE]

Each in a process of its own, on the same base and adapter. Every function of the list is timed by the CPU clock of the
thread that runs it, so work that overlaps is counted once each and a busy machine matters little; what is left of the
process's CPU time (imports, the interpreter, threads of torch) is the last line.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
sys.path.append(str(Path(__file__).parents[2]))  # this folder's gguf.py must not hide the gguf package
sys.path.append(str(Path(__file__).parent))

spent: dict[str, float] = {}
_inside, _lock = threading.local(), threading.Lock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="q06")
    parser.add_argument("--type", default="q4_k_m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "QUANTIZER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_profiled(Path(given.one[0]), given.one[1], given.type, given.threads)))
        return
    from synthetic import SHAPES, make_base, make_lora

    with tempfile.TemporaryDirectory(dir=given.folder) as where:
        work = Path(where)
        make_base(work / "base", SHAPES[given.shape])
        make_lora(work / "adapter", SHAPES[given.shape])
        found = {}
        for quantizer in ("ggml", "auto"):
            command = [sys.executable, __file__, "--one", str(work), quantizer, "--type", given.type]
            command += ["--threads", str(given.threads)]
            found[quantizer] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(f"{given.shape} {given.type}, {given.threads} threads; CPU seconds{'':24} {'ggml':>8} {'kernels':>8}")
    most = {name: max(each.get(name, 0) for each in found.values()) for name in {**found["ggml"], **found["auto"]}}
    for name in sorted(most, key=lambda name: -most[name]):
        print(f"{name:60} {found['ggml'].get(name, 0):8.2f} {found['auto'].get(name, 0):8.2f}")


def _profiled(work: Path, quantizer: str, type_name: str, threads: int) -> dict[str, float]:
    import gguf  # noqa: F401
    import llama_cpp  # noqa: F401
    import torch  # noqa: F401

    from edgeft.exporters import ExportSource
    from edgeft.exporters.gguf import export, layout, quantize, writer

    spent["imports"] = time.process_time()
    _timed(export, "read_vocabulary", "reading the vocabulary")
    _timed(writer, "packed", "packing the header")
    _timed(layout, "dry_run", "llama.cpp's choice of types")
    _timed(quantize.Quantizer, "fast", "loading and checking kernels")
    writer._read = _timed_items(writer._read, "reading and folding (one thread)")
    _timed(quantize.ggml, "encoded", "ggml's quantizer")
    writer.behind = _timed_tasks(writer.behind)
    if quantizer != "ggml":
        from edgeft.exporters.gguf.kquants import run

        _timed(run, "encode", "kernels")
    _timed(writer.os, "fsync", "fsync")
    out = work / f"out-{quantizer}"
    out.mkdir()
    source = ExportSource(work / "base", work / "adapter", merge_base="pristine")
    export.export(source, type_name, out, {"threads": threads, "quantizer": quantizer})
    shutil.rmtree(out)
    return {name: round(value, 3) for name, value in (spent | _rest()).items()}


def _rest() -> dict[str, float]:
    whole = time.process_time()
    return {"all": whole, "the rest": whole - sum(spent.values())}


@contextmanager
def _counted(name: str) -> Iterator[None]:
    """Count the thread's CPU time inside under `name`, but what is counted under another name in it."""
    around, start = getattr(_inside, "counted", 0.0), time.thread_time()
    _inside.counted = 0.0
    try:
        yield
    finally:
        whole = time.thread_time() - start
        with _lock:
            spent[name] = spent.get(name, 0) + whole - _inside.counted
        _inside.counted = around + whole


def _timed(owner: Any, attribute: str, name: str) -> None:
    work: Callable[..., Any] = getattr(owner, attribute)

    @functools.wraps(work)
    def timed(*args: Any, **options: Any) -> Any:
        with _counted(name):
            return work(*args, **options)

    setattr(owner, attribute, timed)


def _timed_items(make: Callable[..., Iterator[Any]], name: str) -> Callable[..., Iterator[Any]]:
    def items(*args: Any) -> Iterator[Any]:
        found, end = make(*args), object()
        while True:
            with _counted(name):
                item = next(found, end)
            if item is end:
                return
            yield item

    return items


def _timed_tasks(behind: Any) -> Any:
    """The writing thread's tasks: waiting costs no CPU time, so what is counted is writing."""

    @contextmanager
    def timed(most: int) -> Iterator[Any]:
        with behind(most) as hand:

            def handed(task: Callable[[], object], size: int) -> None:
                def work() -> None:
                    with _counted("writing"):
                        task()

                hand(work, size)

            yield handed

    return timed


if __name__ == "__main__":
    main()
