"""Merging a LoRA into a checkpoint of real shape: edgeft tensor by tensor, beside peft in memory.

    python tools/bench/merge.py [--shape q06] [--folder WHERE] [--no-peft]

Each runs in a fresh process. The claim to check: peak memory is a constant plus at most one tensor in float32.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measured import HEADER, Measured, measure
from synthetic import SHAPES, make_base, make_lora, quantized_training

_EDGEFT = """
import sys
from pathlib import Path
from edgeft.exporters import ExportSource, hf
base, adapter, merge_base, out = sys.argv[1:]
Path(out).mkdir()
hf.export(ExportSource(Path(base), Path(adapter), merge_base=merge_base), Path(out), {})
"""
_IMPORTS = "import torch, numpy, edgeft.exporters.hf, edgeft.weights\nfrom edgeft.weights import fold, safetensors"
_PEFT = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
model.merge_and_unload().save_pretrained(out)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="q06")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    parser.add_argument("--no-peft", action="store_true", help="leave peft's merge out (it needs the model in memory)")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    with tempfile.TemporaryDirectory(dir=given.folder) as where:
        work = Path(where)
        base, adapter = str(make_base(work / "base", shape)), make_lora(work / "adapter", shape)
        quantized_training(adapter, shape)
        largest = 4 * max(shape.vocab * shape.hidden, shape.intermediate * shape.hidden)
        print(f"{given.shape}: largest tensor in float32 {largest / 1e6:.0f} MB")
        print(HEADER)
        idle = measure(_IMPORTS)
        print(idle.row("imports alone"), flush=True)
        for merge_base in ("pristine", "dequantized"):
            done = measure(_EDGEFT, base, str(adapter), merge_base, str(work / merge_base))
            print(done.row(f"edgeft, {merge_base}"), flush=True)
            _judge(done, idle, largest)
        if not given.no_peft:
            print(measure(_PEFT, base, str(adapter), str(work / "peft")).row("peft merge_and_unload"), flush=True)
            _compare(work / "pristine", work / "peft")


def _judge(done: Measured, idle: Measured, largest: int) -> None:
    over = done.peak - idle.peak
    word = "less" if over < largest else "MORE"
    print(f"{'':28} {over / 1e6:.0f} MB above the imports: {word} than the largest tensor in float32")


def _compare(ours: Path, theirs: Path) -> None:
    import torch

    from edgeft.weights import open_weights

    left, right = open_weights(ours), open_weights(theirs)
    same = sum(
        all(torch.equal(a, b) for a, b in zip(left[name].chunks(), right[name].chunks(), strict=True)) for name in left
    )
    print(f"equal to peft bit for bit: {same} of {len(left)} tensors")


if __name__ == "__main__":
    main()
