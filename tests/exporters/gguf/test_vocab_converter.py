"""Vocabulary metadata against llama.cpp's own converter, for what it can read without a SentencePiece model file.

The converter looks a pre-tokenizer up by a hash; `converter.convert` names it to it. Differences stand here with
reasons.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.exporters.gguf.vocab import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, pretokenizer
from tests.exporters.gguf.converter import convert, source_folder
from tests.exporters.gguf.test_vocab_ids import steps_of
from tests.exporters.gguf.vocabs import BYTES, DIGITS, PREPEND, byte_level, sentencepiece, write_tokenizer
from tests.models_made import save_random

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def llama_cpp_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_folder(tmp_path_factory.mktemp("llama.cpp"))


def model(folder: Path, tokenizer: Any, rows: int = 8, **told: Any) -> Path:
    """A tiny Llama around a tokenizer, its embedding a few rows longer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = write_tokenizer(folder / "base", tokenizer, **told)
    settings = LlamaConfig(
        vocab_size=size + rows, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=64, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return save_random(folder / "base", LlamaForCausalLM, settings)


def vocabularies(folder: Path, base: Path, source: Path, pre: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ours, theirs): the tokenizer's keys."""
    convert(source, base, folder / "theirs.gguf", type_name="f32", pre=pre)
    (folder / "ours").mkdir()
    done = export(ExportSource(base, name="base", base_ref="x"), "f32", folder / "ours", {"threads": 1})
    found = []
    for path in (folder / "ours" / done.facts["file"], folder / "theirs.gguf"):
        reader = gguf.GGUFReader(path)
        found.append({key: f.contents() for key, f in reader.fields.items() if key.startswith("tokenizer.")})
    return found[0], found[1]


ALWAYS_SAID = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}  # llama.cpp guesses them by other keys
BYTE_LEVEL: dict[str, tuple[tuple[str, ...], bool]] = {
    "gpt-2": (("bytes",), False),
    "smollm": (("digits", "bytes"), False),
    "qwen2": ((pretokenizer.QWEN2,), False),
    "llama-bpe": ((pretokenizer.LLAMA3,), True),
    "deepseek-v3": ((r"\p{N}{1,3}", pretokenizer.DEEPSEEK_CJK, pretokenizer.DEEPSEEK_WORDS), False),
}


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level(name: str, llama_cpp_source: Path, tmp_path: Path) -> None:
    key, ignore_merges = BYTE_LEVEL[name]
    tokenizer = byte_level(*steps_of(key), ignore_merges=ignore_merges)
    template = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": "{{ tools }}"}]
    base = model(tmp_path, tokenizer, pad_token="<|im_end|>", chat_template=template)
    ours, theirs = vocabularies(tmp_path, base, llama_cpp_source, name)
    assert set(ours) - set(theirs) <= ALWAYS_SAID
    assert set(theirs) <= set(ours)
    assert {key for key in theirs if ours[key] != theirs[key]} == set()


def test_sentencepiece_without_its_model_file(llama_cpp_source: Path, tmp_path: Path) -> None:
    """The converter's scores are all -1000, which is wrong; it does not pad, and gives types by whether a token has a
    role or lies beyond the vocabulary."""
    base = model(tmp_path, sentencepiece(normalizer=PREPEND), rows=0)
    ours, theirs = vocabularies(tmp_path, base, llama_cpp_source, "default")
    assert set(ours) - set(theirs) <= {*ALWAYS_SAID, "tokenizer.ggml.add_space_prefix"}  # said, though the default
    assert set(theirs) <= set(ours)
    different = {key for key in theirs if ours[key] != theirs[key]}
    assert different == {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}
    assert set(theirs["tokenizer.ggml.scores"]) == {-1000.0}
    types = "tokenizer.ggml.token_type"
    pairs = {
        (ours["tokenizer.ggml.tokens"][number], one, two)
        for number, (one, two) in enumerate(zip(ours[types], theirs[types], strict=True))
        if one != two
    }
    # The unknown token has a type of its own; added tokens without a role are special if they say so.
    assert pairs == {("<unk>", UNKNOWN, CONTROL), ("<|im_start|>", CONTROL, NORMAL), ("<|im_end|>", CONTROL, NORMAL)}
    assert USER_DEFINED in ours[types]
    assert UNUSED not in ours[types]


def test_a_tokenizer_that_the_converter_refuses(llama_cpp_source: Path, tmp_path: Path) -> None:
    """It goes by a hash, which no tokenizer that was changed or made anew has; ours by the structure."""
    base = model(tmp_path, byte_level(DIGITS, BYTES))
    (tmp_path / "sentencepiece.py").write_text("SentencePieceProcessor = None")  # asked for before any file is
    command = [
        sys.executable,
        str(llama_cpp_source / "convert_hf_to_gguf.py"),
        str(base),
        "--outfile",
        str(tmp_path / "x.gguf"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode != 0
    assert "BPE pre-tokenizer was not recognized" in done.stderr
    (tmp_path / "ours").mkdir()
    done_by_us = export(ExportSource(base, name="base", base_ref="x"), "f32", tmp_path / "ours", {"threads": 1})
    assert done_by_us.facts["pre_tokenizer"] == "smollm"
