"""The route that everybody takes from an adapter to a quantized GGUF: peft merges in memory and writes 16-bit shards,
llama.cpp's converter writes a 16-bit GGUF, `llama_model_quantize` writes a third file. Each in a fresh process.

Used by the benchmark beside it, to measure ours and theirs in one run.
"""

from __future__ import annotations

from pathlib import Path

from measured import Measured, measure

_MERGE = """
import sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
model.merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
"""
# The converter tells a pre-tokenizer by a hash of known models' tokenizers, so a made one is named to it here; and it
# asks for the sentencepiece library before it looks whether there is a tokenizer.model.
_CONVERT = """
import sys
source, pre, model, out = sys.argv[1:]
sys.path[:0] = [source, source + "/gguf-py"]
import convert_hf_to_gguf
from conversion import base

def no_sentencepiece(self, *arguments):
    raise FileNotFoundError

base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
base.TextModel._set_vocab_sentencepiece = no_sentencepiece
sys.argv = ["convert", model, "--outfile", out, "--outtype", "bf16"]
convert_hf_to_gguf.main()
sys.argv = ["", *sys.argv[1:]]
"""
_QUANTIZE = """
import ctypes, sys
import llama_cpp
source, out, number, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(number), int(threads)
assert llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) == 0
"""


def merged(base: Path, adapter: Path, work: Path, threads: int) -> Measured:
    """peft's merge; leaves `work`/merged."""
    return measure(_MERGE, str(base), str(adapter), str(work / "merged"), str(threads))


def merged_and_converted(source: Path, base: Path, adapter: Path, work: Path, threads: int) -> dict[str, Measured]:
    """The two steps that every type shares; leaves `work`/stock.gguf (bf16)."""
    merge = merged(base, adapter, work, threads)
    # The template and generation config are the base's own; save_pretrained of a merged model keeps them.
    convert = measure(_CONVERT, str(source), "qwen2", str(work / "merged"), str(work / "stock.gguf"))
    return {"peft merge_and_unload": merge, "convert_hf_to_gguf bf16": convert}


def quantized(work: Path, number: int, threads: int) -> Measured:
    """`llama_model_quantize` of the 16-bit file to llama.cpp's file type `number`; the result is removed again."""
    out = work / "quantized.gguf"
    try:
        return measure(_QUANTIZE, str(work / "stock.gguf"), str(out), str(number), str(threads))
    finally:
        out.unlink(missing_ok=True)


def together(steps: list[Measured]) -> Measured:
    """Steps done one after the other: times and bytes add up, the highest peak counts."""
    return Measured(
        sum(step.seconds for step in steps),
        sum(step.cpu_seconds for step in steps),
        max(step.peak for step in steps),
        max(step.anonymous for step in steps),
        sum(step.read for step in steps),
        sum(step.written for step in steps),
    )
