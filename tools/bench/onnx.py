"""ONNX export from base and adapter: ours, streamed, against peft's merge and onnxruntime-genai's builder.

    python tools/bench/onnx.py [--shape q06] [--types int4,int8,fp16] [--folder FOLDER] [--ours-only]
                               [--sparse] [--layers 4] [--tokens 16] [--no-check]

Every step runs in a process of its own. `sha256` says whether the two `model.onnx` and data files are the same bytes.
--sparse makes the weights a hole in the file (they read as zeros): for shapes that the disk does not hold.
--tokens keeps the files, adds llama.cpp's q8_0 and q4_k_m of the same model, and measures tokens a second of each in
turns (`tokens.py`). --no-check leaves the comparison with the model out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measured import HEADER, Measured, measure
from stock import merged, together
from synthetic import SHAPES, make_base, make_lora

from edgeft.files import digest_file

OURS = """
import sys
from pathlib import Path
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.decoder import export
base, adapter, out, type_name, threads, check, table = sys.argv[1:]
options = {"threads": int(threads), "check": check == "True", "embeddings": table}
export(ExportSource(Path(base), Path(adapter)), type_name, Path(out), options)
"""
GGUF = """
import sys
from pathlib import Path
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
base, adapter, out, type_name, threads = sys.argv[1:]
Path(out).mkdir()
export(ExportSource(Path(base), Path(adapter)), type_name, Path(out), {"threads": int(threads)})
"""
# The builder with the very options that ours takes for its defaults.
STOCK = """
import sys
from pathlib import Path
from edgeft.exporters.onnx.builder import build
from edgeft.exporters.onnx.options import OnnxOptions, builder_options, provider_of
model, out, type_name, tied = sys.argv[1:]
options = OnnxOptions()
switches = builder_options(options, type_name, tied=tied == "True")
build(Path(model), Path(out), precision=type_name, options=switches, cache=Path(out) / "cache",
      provider=provider_of(options, type_name))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="q06")
    parser.add_argument("--layers", type=int, help="fewer than the shape has: the peak is that of its largest weights")
    parser.add_argument("--types", default="int4,int8,fp16,fp32")
    parser.add_argument("--folder", type=Path, help="where to work and find a model made before (default: a new one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--tokens", type=int, help="tokens of each answer whose speed is measured")
    parser.add_argument("--rounds", type=int, default=3, help="of --tokens")
    parser.add_argument("--no-check", action="store_true")
    given = parser.parse_args()
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        run(given, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


def run(given: argparse.Namespace, folder: Path) -> None:
    shape = SHAPES[given.shape]
    shape = replace(shape, layers=given.layers or shape.layers)
    base, adapter, out = folder / "base", folder / "adapter", folder / "out"
    if not (adapter / "adapter_config.json").is_file():
        make_base(base, shape, seed=None if given.sparse else 0)
        make_lora(adapter, shape)
    largest = shape.vocab * shape.hidden * 2
    print(f"{given.shape}: largest weight {largest / 1e6:.0f} MB, aim {1.5 * largest / 1e6 + 700:.0f} MB (1.5 x + 700)")
    print(HEADER)
    merge = None if given.ours_only else merged(base, adapter, folder, given.threads)
    if merge:
        print(merge.row("peft merge_and_unload"))
    kept: list[Path] = []
    for name in given.types.split(","):
        shutil.rmtree(out, ignore_errors=True)
        table = "float" if merge and name == "int8" else "quantized"  # the builder knows none in 8 bits
        options = (str(given.threads), str(not given.no_check), table)
        ours = measure(OURS, str(base), str(adapter), str(out), name, *options)
        print(ours.row(f"ours {name}"), flush=True)
        files = digests(out)
        print(f"{'':28} {sum(size for _, size in files.values()) / 1e6:.0f} MB in the file")
        if given.tokens:
            kept.append(folder / f"onnx-{name}")
            shutil.rmtree(kept[-1], ignore_errors=True)
            out.rename(kept[-1])
        shutil.rmtree(out, ignore_errors=True)
        if merge:
            compare(folder, out, name, merge, ours, files, tied=shape.tied)
    if given.tokens:
        speeds(given, folder, base, adapter, kept)


def speeds(given: argparse.Namespace, folder: Path, base: Path, adapter: Path, kept: list[Path]) -> None:
    """Tokens a second of the ONNX files beside llama.cpp's of the same model."""
    for name in ("q8_0", "q4_k_m"):
        place = folder / f"gguf-{name}"
        shutil.rmtree(place, ignore_errors=True)
        measure(GGUF, str(base), str(adapter), str(place), name, str(given.threads))
        kept.append(next(place.glob("*.gguf")))
    tokens = [sys.executable, str(Path(__file__).with_name("tokens.py")), *map(str, kept)]
    asked = ["--tokens", str(given.tokens), "--rounds", str(given.rounds), "--threads", str(given.threads)]
    subprocess.run([*tokens, *asked], check=True)


def compare(
    folder: Path,
    out: Path,
    name: str,
    merge: Measured,
    ours: Measured,
    files: dict[str, tuple[str, int]],
    *,
    tied: bool,
) -> None:
    stock = measure(STOCK, str(folder / "merged"), str(out), name, str(tied))
    both = together([merge, stock])
    print(stock.row(f"stock builder {name}"))
    print(both.row(f"merge + builder {name}"))
    same = digests(out) == files
    print(
        f"{'':28} sha256 {'equal' if same else 'DIFFERENT'}; {both.seconds / ours.seconds:.2f}x the time, "
        f"{both.peak / ours.peak:.1f}x the memory of ours",
        flush=True,
    )
    shutil.rmtree(out)


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (digest_file(path), path.stat().st_size) for path in sorted(folder.glob("model.onnx*"))}


if __name__ == "__main__":
    main()
