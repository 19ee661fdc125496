"""llama.cpp's own converter, as an oracle: it comes in the source package of llama-cpp-python. Nothing is kept here.

`EDGEFT_LLAMA_CPP` may name an unpacked llama.cpp source folder; otherwise the source package of that version is
downloaded with pip into a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.llama_cpp_source import unpacked

# The converter tells a pre-tokenizer by a hash of known models' tokenizers, so a made one is named to it here; and it
# asks for the sentencepiece library before it looks whether there is a tokenizer.model.
_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/gguf-py")
import convert_hf_to_gguf
from conversion import base
pre = sys.argv[2]
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre

def no_sentencepiece(self, *arguments):
    raise FileNotFoundError

base.TextModel._set_vocab_sentencepiece = no_sentencepiece
sys.argv = ["convert", *sys.argv[3:]]
convert_hf_to_gguf.main()
"""


def source_folder(scratch: Path) -> Path:
    """An unpacked llama.cpp source folder; the test is skipped when there is none and none can be had."""
    found = unpacked(scratch)
    if found is None:
        pytest.skip("the source package of llama-cpp-python cannot be downloaded")
    return found


def convert(source: Path, model: Path, to: Path, *, type_name: str, pre: str) -> None:
    """Run the converter on a checkpoint folder."""
    command = [
        sys.executable,
        "-c",
        _SCRIPT,
        str(source),
        pre,
        str(model),
        "--outfile",
        str(to),
        "--outtype",
        type_name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def convert_lora(source: Path, model: Path, adapter: Path, to: Path, *, type_name: str) -> Path:
    """Run the converter of adapters."""
    script = str(source / "convert_lora_to_gguf.py")
    command = [sys.executable, script, "--base", str(model), "--outfile", str(to), "--outtype", type_name, str(adapter)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return to


# Many conversions in one process: every model class takes the byte-level vocabulary that the tests' tokenizer has,
# also those whose real models have a sentencepiece one.
_MANY = """
import json
import sys
source, jobs = sys.argv[1], json.loads(sys.argv[2])
sys.path[:0] = [source + "/gguf-py", source]
import convert_hf_to_gguf
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
find = convert_hf_to_gguf.get_model_class

def found(*arguments, **options):
    model_class = find(*arguments, **options)
    model_class.set_vocab = lambda self: self._set_vocab_gpt2()
    return model_class

convert_hf_to_gguf.get_model_class = found
for model, to, type_name in jobs:
    options = ["--no-mtp"] if "Qwen3_5" in open(model + "/config.json").read() else []  # no draft layers
    sys.argv = ["convert", model, "--outfile", to, "--outtype", type_name, *options]
    convert_hf_to_gguf.main()
"""


def convert_many(source: Path, jobs: list[tuple[Path, Path, str]]) -> None:
    """Run the converter on checkpoint folders: (folder, file to write, type) each."""
    listed = json.dumps([[str(model), str(to), type_name] for model, to, type_name in jobs])
    command = [sys.executable, "-c", _MANY, str(source), listed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
