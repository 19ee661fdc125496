"""Vocabularies: the pre-tokenizer told by its structure, token types, special tokens, and what cannot be expressed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_vocabulary
from edgeft.exporters.gguf.vocab.pretokenizer import LLAMA3, QWEN2, QWEN35, recognise

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN_BYTES = {**BYTES, "use_regex": False}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def tokenizer_of(*steps: dict[str, Any], ignore_merges: bool = False) -> dict[str, Any]:
    pre = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)}
    return {"model": {"type": "BPE", "ignore_merges": ignore_merges}, "pre_tokenizer": pre, "normalizer": None}


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        (tokenizer_of(split(QWEN2), PLAIN_BYTES), "qwen2"),
        (tokenizer_of(split(QWEN35), PLAIN_BYTES), "qwen35"),
        (tokenizer_of(split(LLAMA3), PLAIN_BYTES, ignore_merges=True), "llama-bpe"),
        (tokenizer_of(split(LLAMA3), PLAIN_BYTES), "smaug-bpe"),
        (tokenizer_of(BYTES), "gpt-2"),
        (tokenizer_of({"type": "Digits", "individual_digits": True}, BYTES), "smollm"),
    ],
)
def test_recognised_by_structure(tokenizer: dict[str, Any], name: str) -> None:
    found = recognise(tokenizer)
    assert (found.name, found.needs_merges) == (name, False)
    assert recognise({**tokenizer, "added_tokens": [{"content": "<new>", "id": 5}]}) == found


@pytest.mark.parametrize(
    "tokenizer",
    [
        tokenizer_of(split(QWEN2), BYTES),
        tokenizer_of(split(r"\w+|\s+"), PLAIN_BYTES),
        tokenizer_of({**split(QWEN2), "behavior": "Removed"}, PLAIN_BYTES),
        tokenizer_of({**BYTES, "add_prefix_space": True}),
        tokenizer_of({"type": "Digits", "individual_digits": False}, BYTES),
        tokenizer_of({"type": "Whitespace"}),
        {"model": {}, "pre_tokenizer": None},
    ],
)
def test_others_are_refused_with_the_list(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="cannot express") as caught:
        recognise(tokenizer)
    assert "qwen2" in str(caught.value)


def test_normalisers_that_llama_cpp_does_not_have() -> None:
    with pytest.raises(ModelError, match="Lowercase"):
        recognise({**tokenizer_of(BYTES), "normalizer": {"type": "Lowercase"}})


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's tokenizer files."""
    for path in tiny_llama.glob("*.js*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    return tmp_path


def read(folder: Path, **changes: Any) -> Any:
    return read_vocabulary(folder, {**json.loads((folder / "config.json").read_text()), **changes})


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    table = json.loads((folder / name).read_text())
    change(table)
    (folder / name).write_text(json.dumps(table))


def test_tokens_types_and_special_tokens(folder: Path) -> None:
    edit(
        folder,
        "tokenizer.json",
        lambda table: table["added_tokens"].append({"id": 320, "content": "plain added", "special": False}),
    )
    found = read(folder, vocab_size=324)
    assert len(found.tokens) == len(found.types) == 324
    assert (found.tokens[319], found.types[319]) == ("<|im_end|>", CONTROL)
    assert (found.tokens[320], found.types[320]) == ("plain added", USER_DEFINED)
    assert (found.tokens[323], found.types[323]) == ("[PAD323]", UNUSED)
    assert found.types[0] == NORMAL
    assert found.special == {"eos": 319, "pad": 317}
    assert (found.add_bos, found.add_eos) == (False, False)
    assert found.template == "{{ messages }}"
    assert all(merge.count(" ") == 1 for merge in found.merges)


def test_further_end_tokens_of_generation_are_written(folder: Path) -> None:
    edit(folder, "generation_config.json", lambda table: table.update(eos_token_id=[319, 317]))
    assert read(folder).special["eot"] == 317


def test_bos_of_the_post_processor(folder: Path) -> None:
    single = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    edit(
        folder,
        "tokenizer.json",
        lambda table: table.update(post_processor={"type": "TemplateProcessing", "single": single}),
    )
    with pytest.raises(ModelError, match="not its bos token"):
        read(folder)
    edit(folder, "tokenizer_config.json", lambda table: table.update(bos_token="<|endoftext|>"))
    assert read(folder).add_bos


def test_what_does_not_fit(folder: Path) -> None:
    with pytest.raises(ModelError, match="ids up to 319"):
        read(folder, vocab_size=100)
    edit(folder, "tokenizer.json", lambda table: table["model"].update(type="WordLevel"))
    with pytest.raises(ModelError, match="WordLevel"):
        read(folder)
    edit(folder, "tokenizer.json", lambda table: table.pop("model"))
    with pytest.raises(ModelError, match="tokenizers library"):
        read(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        read(folder)
