"""Llama 2's tokenizer puts a space before a text but not behind special tokens, which GGUF cannot say: its files are
judged on conversations, and only this cause is excused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgeft.evals.awkward import STRINGS
from edgeft.evals.fidelity import Tally, _awkward
from edgeft.exporters.gguf.vocab import read_vocabulary
from edgeft.models import template
from tests.exporters.gguf import vocabs

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['content'] + '</s>' }}{% endfor %}"


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Transformers with a tiny tokenizer built as Llama 2's, and llama.cpp with the vocabulary that we write of it."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("llama2")
    tokenizer = vocabs.sentencepiece(pre=vocabs.metaspace("first"))
    count = vocabs.write_tokenizer(folder, tokenizer, tokenizer_class="LlamaTokenizer", legacy=False)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    vocabulary = read_vocabulary(folder, {"vocab_size": count, "model_type": "llama"})
    assert ("tokenizer.ggml.add_space_prefix", False, "bool") in vocabulary.settings
    opened = vocabs.Opened(vocabs.write_gguf(folder / "vocab.gguf", vocabulary))
    theirs = AutoTokenizer.from_pretrained(folder)

    def render(messages: Any, add_generation_prompt: bool = False) -> str:
        variables = {"bos_token": "<s>"}
        return template.render(TEMPLATE, messages, add_generation_prompt=add_generation_prompt, variables=variables)

    reference = SimpleNamespace(render=render, encode=lambda text: theirs.encode(text, add_special_tokens=False))
    return reference, SimpleNamespace(render=render, encode=opened.ids)


def test_the_space_before_a_bare_text_is_told_and_not_fatal(sides: tuple[Any, Any]) -> None:
    found = _awkward(*sides, Tally())
    assert found["equal"] == found["n"]
    assert found["not_required"]["equal"] == found["not_required"]["n"]
    assert "digits" in found["space_before"]
    assert found["n"] + found["not_required"]["n"] + len(found["space_before"]) == 3 * (
        len(STRINGS) + 1
    )  # bare, as a message, in a conversation; the model's own markers too


def test_other_differences_still_count(sides: tuple[Any, Any]) -> None:
    """A file that puts the space behind special tokens too is wrong in conversations: nothing is excused."""
    reference, candidate = sides

    def everywhere(text: str) -> list[int]:
        return list(candidate.encode(text.replace("<|im_start|>", "<|im_start|> ")))

    wrong = SimpleNamespace(render=candidate.render, encode=everywhere)
    found = _awkward(reference, wrong, Tally())
    assert found["equal"] < found["n"] / 2
    assert "digits" not in found.get("space_before", [])
