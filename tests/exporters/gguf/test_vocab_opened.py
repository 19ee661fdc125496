"""What training sees of a tokenizer's files: our reading of them against AutoTokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters.gguf.vocab.opened import opened
from tests.exporters.gguf.vocabs import (
    BYTES,
    DIGITS,
    GEMMA_SPLIT,
    PREPEND,
    REPLACE,
    byte_level,
    sentencepiece,
    write_tokenizer,
)

LLAMA = {"tokenizer_class": "LlamaTokenizer"}
SPM, BYTE = "sentencepiece", "bytes"
# (model type, tokenizer_config.json, which tokenizer.json)
FILES: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama 2": ("llama", LLAMA, SPM),
    "Llama 2, legacy": ("llama", {**LLAMA, "legacy": True}, SPM),
    "Llama 2, no space": ("llama", {**LLAMA, "add_prefix_space": False}, SPM),
    "Llama 2, fast": ("llama", {"tokenizer_class": "LlamaTokenizerFast", "legacy": False}, SPM),
    "Llama 3": ("llama", {}, BYTE),
    "Llama class around bytes": ("llama", LLAMA, BYTE),
    "Mistral": ("mistral", LLAMA, SPM),
    "Phi-3": ("phi3", LLAMA, SPM),
    "Granite": ("granite", {"tokenizer_class": "GPT2Tokenizer"}, BYTE),
    "Gemma": ("gemma2", {"tokenizer_class": "GemmaTokenizer"}, SPM),
    "Qwen 2": ("qwen2", {"tokenizer_class": "Qwen2Tokenizer"}, BYTE),
    "Qwen 2 as Llama": ("qwen2", LLAMA, BYTE),
    "Qwen 3": ("qwen3", {"tokenizer_class": "Qwen2Tokenizer"}, BYTE),
    "GPT-2": ("gpt2", {"tokenizer_class": "GPT2Tokenizer"}, BYTE),
    "StarCoder 2": ("starcoder2", {"tokenizer_class": "GPT2Tokenizer"}, BYTE),
    "OLMo": ("olmo", {"tokenizer_class": "GPTNeoXTokenizer"}, BYTE),
    "Command R": ("cohere", {"tokenizer_class": "CohereTokenizer"}, BYTE),
    "OLMo 2": ("olmo2", {"tokenizer_class": "GPT2Tokenizer"}, BYTE),
}


def steps(table: dict[str, Any], size: int) -> dict[str, Any]:
    """What decides over ids: normaliser, splits, flags of added tokens. `size`: classes add tokens that the file lacks
    (Gemma's <mask>) behind its own; those of published models are all there."""
    pre = json.loads(json.dumps(table["pre_tokenizer"]))
    for part in [pre, *((pre or {}).get("pretokenizers") or [])]:
        if part:
            part.pop("trim_offsets", None)
    flags = ("id", "content", "special", "single_word", "lstrip", "rstrip", "normalized")
    added = sorted(tuple(token[flag] for flag in flags) for token in table["added_tokens"] if token["id"] < size)
    return {
        "normalizer": table["normalizer"],
        "pre_tokenizer": pre,
        "added": added,
        "ignore_merges": table["model"]["ignore_merges"],
    }


@pytest.mark.parametrize("name", FILES)
def test_as_autotokenizer_opens_it(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model_type, told, form = FILES[name]
    if form == SPM:
        tokenizer = sentencepiece(normalizer=PREPEND, size=420)
    else:
        tokenizer = byte_level(DIGITS, BYTES, ignore_merges=True, size=300)
    size = write_tokenizer(tmp_path, tokenizer, **told)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    table = json.loads((tmp_path / "tokenizer.json").read_text())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    ours = opened(table, settings, {"model_type": model_type})
    assert steps(ours, size) == steps(json.loads(theirs.backend_tokenizer.to_str()), size)


def test_gemmas_file_is_what_its_class_builds() -> None:
    table = json.loads(sentencepiece(normalizer=REPLACE, pre=GEMMA_SPLIT, size=420).to_str())
    ours = opened(table, {"tokenizer_class": "GemmaTokenizer"}, {"model_type": "gemma3_text"})
    assert (ours["normalizer"], ours["pre_tokenizer"]) == (table["normalizer"], table["pre_tokenizer"])


def test_flags_of_tokenizer_config_win(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = sentencepiece(normalizer=PREPEND, size=420)
    number = tokenizer.token_to_id("<tool>")
    flags = {
        "content": "<tool>",
        "special": False,
        "single_word": False,
        "lstrip": False,
        "rstrip": True,
        "normalized": False,
    }
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {str(number): flags}}
    size = write_tokenizer(tmp_path, tokenizer, **told)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    ours = opened(json.loads((tmp_path / "tokenizer.json").read_text()), settings, {"model_type": "llama"})
    assert steps(ours, size) == steps(json.loads(theirs.backend_tokenizer.to_str()), size)
