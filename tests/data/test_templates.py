"""The loss mask under the chat templates of the model families, against spans derived another way: from each family's
own marks, with a regular expression over the rendered text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeft.data import templates
from edgeft.data.faults import BadRow
from edgeft.data.masks import IGNORED, Example, Masker


@dataclass(frozen=True)
class Family:
    """`answer` finds what an assistant writes, in its first group; `specials` are the family's tokens, `end` ends a
    turn."""

    name: str
    answer: str
    specials: tuple[str, ...]
    end: str
    bos: str | None = None
    eos: str | None = None
    system: bool = True
    tools: bool = False


FAMILIES = [
    Family("chatml", r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    Family(
        "llama3",
        r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n(.*?<\|eot_id\|>)",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        tools=True,
    ),
    Family(
        "gemma",
        r"<start_of_turn>model\n(.*?<end_of_turn>)",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
    ),
    Family(
        "phi3",
        r"<\|assistant\|>\n(.*?<\|end\|>)",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"),
        "<|end|>",
        eos="<|endoftext|>",
    ),
    Family(
        "mistral",
        r"\[/INST\]( .*?</s>)",
        ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
         "[/TOOL_RESULTS]", "[TOOL_CALLS]"),
        "</s>",
        bos="<s>",
        eos="</s>",
        tools=True,
    ),
    Family("zephyr", r"<\|assistant\|>\n(.*?</s>)", ("<s>", "</s>"), "</s>", eos="</s>"),
    Family(
        "qwen3",
        r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        tools=True,
    ),
    Family(
        "deepseek",
        r"<｜Assistant｜>(.*?<｜end▁of▁sentence｜>)",
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
]  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


@pytest.fixture(scope="module")
def tokenizers(tiny_llama: Path) -> dict[str, Any]:
    """A byte-level tokenizer for each family, with its special tokens and its template."""
    from transformers import AutoTokenizer

    found = {}
    for family in FAMILIES:
        tokenizer = AutoTokenizer.from_pretrained(str(tiny_llama))
        tokenizer.add_special_tokens({"additional_special_tokens": list(family.specials)})
        tokenizer.bos_token = family.bos
        tokenizer.eos_token = family.eos or family.end
        tokenizer.chat_template = templates.text_of(family.name)
        found[family.name] = tokenizer
    return found


def trained(example: Example) -> list[list[int]]:
    """The stretches of neighbouring tokens that are trained, apart behind each end of a turn."""
    runs: list[list[int]] = [[]]
    for token, label in zip(example.ids, example.labels, strict=True):
        if label == IGNORED:
            runs.append([])
            continue
        assert label == token
        runs[-1].append(token)
        if token in example.ends:
            runs.append([])
    return [run for run in runs if run]


def conversation(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    return turns + [
        {"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(contents)
    ]


def by_marks(family: Family, text: str) -> list[str]:
    return re.findall(family.answer, text, re.DOTALL)


TALK = ("Where is Oslo?", "In Norway.", "And Bergen?", "There too.\nOn the coast.")


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_what_is_trained_is_what_the_marks_say(tokenizers: dict[str, Any], name: str, system: str | None) -> None:
    family, tokenizer = BY_NAME[name], tokenizers[name]
    turns = conversation(*TALK, system=system)
    examples = Masker(tokenizer).encode(turns)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert examples[-1].text == whole
    found = []
    for example in examples:
        runs = [tokenizer.decode(run) for run in trained(example)]
        assert runs == by_marks(family, example.text)[-len(runs) :]
        assert example.ends == (tokenizer.convert_tokens_to_ids(family.end),) * len(runs)
        found += runs
    assert len(found) == 2, "each answer once"
    assert [TALK[1] in found[0], TALK[3] in found[1]] == [True, True]
    # Qwen3 and (with a system turn) Mistral write the first exchange otherwise once the second follows.
    assert len(examples) == (2 if name == "qwen3" or (name == "mistral" and system) else 1)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from("\n "), min_size=1)


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(WORDS.filter(str.strip), min_size=2, max_size=4).filter(lambda found: len(found) % 2 == 0))
def test_trained_tokens_decode_to_exactly_the_trained_turns(
    tokenizers: dict[str, Any], name: str, contents: list[str]
) -> None:
    """Whatever the turns say: the trained tokens are the answers as the template writes them, each with its end."""
    import unicodedata

    family, tokenizer = BY_NAME[name], tokenizers[name]
    try:
        examples = Masker(tokenizer).encode(conversation(*contents))
    except BadRow:  # exact, or refused: only where a turn holds a mark of the family
        if any(mark in "".join(contents) for mark in (*family.specials, "think>")):
            return
        raise
    said = [tokenizer.decode(run) for example in examples for run in trained(example)]
    assert len(said) == len(contents) // 2
    for text, content in zip(said, contents[1::2], strict=True):
        bare = text.removesuffix(family.end).removeprefix("<think>\n\n</think>\n\n")
        assert text.endswith(family.end)
        assert bare.strip() == unicodedata.normalize("NFC", content).strip()


def test_thoughts_are_trained_where_the_template_keeps_them(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["qwen3"]
    turns = conversation(*TALK)
    turns[1]["reasoning_content"] = "A capital."
    turns[3]["content"] = "<think>\nA harbour.\n</think>\n\nThere too."
    first, second = Masker(tokenizer).encode(turns)
    assert [tokenizer.decode(run) for run in trained(first)] == [
        "<think>\nA capital.\n</think>\n\nIn Norway.<|im_end|>"
    ]
    assert [tokenizer.decode(run) for run in trained(second)] == [
        "<think>\nA harbour.\n</think>\n\nThere too.<|im_end|>"
    ]
    assert "A capital." not in second.text


def test_a_template_that_takes_thoughts_out_is_refused(tokenizers: dict[str, Any]) -> None:
    turns = conversation("Where is Oslo?", "<think>A capital.</think>In Norway.")
    with pytest.raises(BadRow, match="turn 2 cannot be masked exactly: the template changes what it says"):
        Masker(tokenizers["deepseek"]).encode(turns)
    turns = [turns[0], {"role": "assistant", "content": "In Norway.", "reasoning_content": "A capital."}]
    with pytest.raises(BadRow, match="the template changes what it says"):
        Masker(tokenizers["chatml"]).encode(turns)


def test_a_generation_prompt_that_training_does_not_have_is_refused(tokenizers: dict[str, Any]) -> None:
    """DeepSeek R1's manner: the prompt opens a thought that the conversation is written without."""
    import copy

    tokenizer = copy.deepcopy(tokenizers["deepseek"])
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{- '<｜Assistant｜>' -}}", "{{- '<｜Assistant｜><think>\n' -}}"
    )
    with pytest.raises(BadRow, match="the text before it is not the prompt that the template gives"):
        Masker(tokenizer).encode(conversation(*TALK[:2]))


CALL = [
    {"role": "user", "content": "Is it raining in Bergen?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Bergen"}}}],
    },
    {"role": "tool", "content": "drizzle"},
    {"role": "assistant", "content": "A little."},
]
CALLS = {
    "llama3": '{"name": "weather", "parameters": {"city": "Bergen"}}<|eot_id|>',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bergen"}}]</s>',
    "qwen3": '<tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call><|im_end|>',
}


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.tools])
def test_tool_calls_are_trained_and_results_are_not(tokenizers: dict[str, Any], name: str) -> None:
    tokenizer = tokenizers[name]
    examples = Masker(tokenizer).encode(CALL, TOOLS)
    said = [tokenizer.decode(run).strip() for example in examples for run in trained(example)]
    said = [text.removeprefix("<think>\n\n</think>\n\n") for text in said]  # where Qwen3 writes an empty thought
    assert said[0] == CALLS[name]
    assert said[1].startswith("A little.")
    assert len(said) == 2
    assert "drizzle" in examples[-1].text


@pytest.mark.parametrize("name", ["chatml", "zephyr", "deepseek", "gemma", "phi3"])
def test_templates_without_tools_refuse_them(tokenizers: dict[str, Any], name: str) -> None:
    with pytest.raises(BadRow, match=r"tool|roles|take turns"):
        Masker(tokenizers[name]).encode(CALL, TOOLS)
    with pytest.raises(BadRow, match=r"does not write the tools \('weather' is missing\)"):
        Masker(tokenizers[name]).encode(conversation(*TALK[:2]), TOOLS)


def test_a_turn_may_be_left_out_of_training(tokenizers: dict[str, Any]) -> None:
    turns = conversation(*TALK)
    turns[1]["train"] = False
    (example,) = Masker(tokenizers["chatml"]).encode(turns)
    assert [tokenizers["chatml"].decode(run) for run in trained(example)] == [f"{TALK[3]}<|im_end|>"]


def test_a_named_template_needs_its_tokens(tiny_llama: Path) -> None:
    from edgeft.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tiny_llama, chat_template=templates.text_of("llama3").replace("{{- bos_token -}}", ""))
    with pytest.raises(BadRow, match="writes no end-of-turn token behind it"):
        Masker(tokenizer).encode(conversation("Hi", "Hello"))
