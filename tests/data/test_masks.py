"""The loss mask: what is trained decodes to exactly the trained turns, each with its end-of-turn token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeft.data.faults import BadRow
from edgeft.data.masks import IGNORED, Example, Masker
from edgeft.models.tokenizer import load_tokenizer

HEADERS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Mistral's manner: no generation prompt, the answer begins with a space, nothing behind the end.
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
# Qwen3's manner: an empty thought before the answer to the last question, which is not part of the generation prompt.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\t "), min_size=1)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return load_tokenizer(tiny_llama)


def row(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    turns: list[dict[str, Any]] = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return turns


def only(found: list[Example]) -> Example:
    """The one sequence of a conversation."""
    assert len(found) == 1
    return found[0]


def trained_runs(example: Example) -> list[list[int]]:
    """The stretches of neighbouring tokens that are trained."""
    runs: list[list[int]] = []
    for position, label in enumerate(example.labels):
        if label == IGNORED:
            continue
        assert label == example.ids[position]
        if position and example.labels[position - 1] != IGNORED:
            runs[-1].append(label)
        else:
            runs.append([label])
    return runs


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(TEXT, min_size=2, max_size=6).filter(lambda found: len(found) % 2 == 0), system=st.none() | TEXT
)
def test_trained_tokens_decode_to_the_trained_turns(tokenizer: Any, contents: list[str], system: str | None) -> None:
    import unicodedata

    from hypothesis import assume

    assume(all(content.strip() for content in contents))
    example = only(Masker(tokenizer).encode(row(*contents, system=system)))
    expected = [unicodedata.normalize("NFC", content) + "<|im_end|>" for content in contents[1::2]]
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == expected
    assert example.ends == (tokenizer.convert_tokens_to_ids("<|im_end|>"),) * len(expected)
    assert sum(example.roles.values()) == len(example.ids)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=TEXT, answer=TEXT)
def test_the_prompt_has_the_ids_that_the_model_is_given(tokenizer: Any, question: str, answer: str) -> None:
    """Also where the answer begins with what would melt into the prompt's last token."""
    from hypothesis import assume

    assume(question.strip() and answer.strip())
    example = only(Masker(tokenizer).encode(row(question, answer)))
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert list(example.ids[: len(ids)]) == ids
    assert example.labels[len(ids)] != IGNORED
    assert set(example.labels[: len(ids)]) == {IGNORED}


def test_an_answer_that_melts_into_the_prompt_is_tokenized_apart(tiny_llama: Path) -> None:
    """The pre-tokenizer takes line breaks together: "assistant\n" + "\nHello" has other tokens than its two parts."""
    bare = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %} {% endif %}"
    spaced = bare.replace("{{ m.content }}", "{{ ' ' if m.role == 'assistant' }}{{ m.content }}")
    tokenizer = load_tokenizer(tiny_llama, chat_template=spaced)
    example = only(Masker(tokenizer).encode(row("Hi", "the light")))
    whole = tokenizer(example.text, add_special_tokens=False)["input_ids"]
    assert example.in_pieces
    assert list(example.ids) != whole
    assert decoded(tokenizer, list(example.ids)) == example.text
    assert decoded(tokenizer, trained_runs(example)[0]) == "the light<|im_end|>"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (HEADERS, ["Oslo.<|im_end|>", "No.<|im_end|>"]),
        (BRACKETS, [" Oslo.<|im_end|>", " No.<|im_end|>"]),
    ],
)
def test_other_templates(tiny_llama: Path, template: str, expected: list[str]) -> None:
    tokenizer = load_tokenizer(tiny_llama, chat_template=template)
    example = only(Masker(tokenizer).encode(row("Where?", "Oslo.", "Far?", "No.")))
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == expected


def test_what_stands_between_prompt_and_answer_is_trained(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama, chat_template=THINKING)
    masker = Masker(tokenizer)
    example = only(masker.encode(row("Where?", "Oslo.")))
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == ["<think>\n\n</think>\n\nOslo.<|im_end|>"]
    # The template takes the thought out of the first answer once a second question follows: two sequences.
    first, second = masker.encode(row("Where?", "Oslo.", "Far?", "No."))
    assert first == example
    assert [decoded(tokenizer, run) for run in trained_runs(second)] == ["<think>\n\n</think>\n\nNo.<|im_end|>"]
    assert "Oslo.<|im_end|>" in second.text
    assert (first.turn, second.turn) == (2, 4)


def test_roles_to_train(tokenizer: Any) -> None:
    example = only(Masker(tokenizer, ["user", "assistant"]).encode(row("Where?", "Oslo.", system="Be kind.")))
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == ["Where?<|im_end|>", "Oslo.<|im_end|>"]
    example = only(Masker(tokenizer, ["system"]).encode(row("Where?", "Oslo.", system="Be kind.")))
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == ["Be kind.<|im_end|>"]


def test_an_end_of_turn_token_may_be_named_by_the_generation_config_alone(tiny_llama: Path) -> None:
    """A template may end turns with a token that the tokenizer does not call special."""
    tokenizer = load_tokenizer(
        tiny_llama,
        chat_template="{% for m in messages %}{{ m.role }}: {{ m.content }}~{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    )
    (end,) = tokenizer("~", add_special_tokens=False)["input_ids"]
    with pytest.raises(BadRow, match="no end-of-turn token"):
        Masker(tokenizer).encode(row("Hi", "Hello"))
    example = only(Masker(tokenizer, stop_ids=[end]).encode(row("Hi", "Hello")))
    assert [decoded(tokenizer, run) for run in trained_runs(example)] == ["Hello~"]


def test_templates_run_in_a_sandbox(tiny_llama: Path) -> None:
    evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(BadRow, match="access to attribute '__class__'"):
        Masker(load_tokenizer(tiny_llama, chat_template=evil)).encode(row("Hi", "Hello"))
    changing = "{% set _ = messages.append(messages[0]) %}x"
    with pytest.raises(BadRow, match="access to attribute 'append' of 'list' object is unsafe"):
        Masker(load_tokenizer(tiny_llama, chat_template=changing)).encode(row("Hi", "Hello"))
