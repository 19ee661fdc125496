"""Base and LoRA of real shape to GGUF in one pass, type by type, each in a fresh process.

    python tools/bench/gguf.py [--shape q06] [--types f16,q8_0,q4_k_m] [--folder WHERE] [--threads N]

The claim to check: peak memory is a constant plus at most one tensor in float32, and nothing but the result is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent] + [
    str(Path(__file__).parent)
]  # this file must not hide the gguf package

from measured import HEADER, measure  # noqa: E402
from synthetic import SHAPES, make_base, make_lora, quantized_training  # noqa: E402

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
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    with tempfile.TemporaryDirectory(dir=given.folder) as where:
        work = Path(where)
        base, adapter = make_base(work / "base", shape), make_lora(work / "adapter", shape)
        quantized_training(adapter, shape)
        largest = 4 * max(shape.vocab * shape.hidden, shape.intermediate * shape.hidden)
        print(f"{given.shape}: largest tensor in float32 {largest / 1e6:.0f} MB")
        print(HEADER)
        idle = measure(_IMPORTS)
        print(idle.row("imports alone"), flush=True)
        for merge_base in given.merge_base.split(","):
            for type_name in given.types.split(","):
                out = work / f"{merge_base}-{type_name}"
                done = measure(_EDGEFT, str(base), str(adapter), merge_base, type_name, str(out), str(given.threads))
                print(done.row(f"{type_name}, {merge_base}"))
                size = next(out.glob("*.gguf")).stat().st_size
                over = done.peak - idle.peak
                word = "less" if over < largest else "MORE"
                print(
                    f"{'':28} {over / 1e6:.0f} MB above the imports: {word} than the largest tensor in float32; "
                    f"the file has {size / 1e6:.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
