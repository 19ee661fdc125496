"""One model in three runtimes: same token ids, same text, same logits, same answers. transformers is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import ModelError
from edgeft.evals.awkward import STRINGS

CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [
        {"role": "system", "content": 'Be <b>brief</b> & "kind".'},
        {"role": "user", "content": "  spaces  \n\nand lines "},
    ],
    [
        {"role": "user", "content": "é 你好 👩‍🚀"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "{{ x }}"},
    ],
]
FREE_RUNNING = {"max_tokens": 20}


@pytest.mark.parametrize("string", [s for s in STRINGS if s.required], ids=lambda s: s.name)
def test_token_ids(string: Any, opened: dict[str, Any], tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    expected = AutoTokenizer.from_pretrained(tiny_llama).encode(string.text, add_special_tokens=False)
    assert {kind: runtime.encode(string.text) for kind, runtime in opened.items()} == dict.fromkeys(opened, expected)


def test_special_tokens_in_text_are_parsed_and_none_is_added(runtime: Any) -> None:
    assert runtime.encode("") == []
    assert runtime.encode("<|im_end|>") == [319]
    assert runtime.encode("<|im_start|>user\n")[0] == 318


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("prompt", [True, False])
def test_rendering(messages: Any, prompt: bool, opened: dict[str, Any], tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    for runtime in opened.values():
        assert runtime.render(messages, add_generation_prompt=prompt) == expected
    assert opened["onnx"].render_on_device(messages, add_generation_prompt=prompt) == expected


def test_what_they_are(opened: dict[str, Any]) -> None:
    assert {runtime.name for runtime in opened.values()} == {"hf", "gguf f32", "onnx fp32"}
    for runtime in opened.values():
        assert (runtime.vocab_size, runtime.context_length) == (320, 512)
        assert 319 in runtime.stop_ids


# llama.cpp keeps its KV cache in float16, as it does on a device.
@pytest.mark.parametrize(("kind", "tolerance"), [("hf", 1e-5), ("onnx", 1e-4), ("gguf", 5e-2)])
def test_logits(
    kind: str, tolerance: float, opened: dict[str, Any], prompts: list[list[int]], tiny_llama: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    for ids in prompts:
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        given = opened[kind].logits(ids)
        assert given.dtype == np.float32
        assert given.shape == (len(ids), 320)
        assert np.abs(given - expected).max() < tolerance
        assert (given.argmax(1) == expected.argmax(1)).mean() >= (1.0 if kind != "gguf" else 0.99)


def test_logits_are_from_an_empty_context(runtime: Any, prompts: list[list[int]]) -> None:
    first = runtime.logits(prompts[1])
    runtime.generate([prompts[2]], **FREE_RUNNING)
    runtime.logits(prompts[4])
    assert np.array_equal(runtime.logits(prompts[1]), first)


def test_logits_batch_is_logits_in_order(runtime: Any, prompts: list[list[int]]) -> None:
    together = list(runtime.logits_batch(prompts))
    assert len(together) == len(prompts)
    for ids, given in zip(prompts, together, strict=True):
        assert given.shape == (len(ids), 320)
        assert np.abs(given - runtime.logits(ids)).max() < 1e-4


def test_greedy_answers_agree(opened: dict[str, Any], prompts: list[list[int]]) -> None:
    answers = {kind: runtime.generate(prompts, **FREE_RUNNING) for kind, runtime in opened.items()}
    assert [a.ids for a in answers["onnx"]] == [a.ids for a in answers["hf"]]
    # A float16 cache may turn a tie of this random model; not more than one.
    differing = sum(one.ids != other.ids for one, other in zip(answers["gguf"], answers["hf"], strict=True))
    assert differing <= 1


def test_hf_answers_as_transformers_does(opened: dict[str, Any], prompts: list[list[int]], tiny_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    for ids, answer in zip(prompts, opened["hf"].generate(prompts, **FREE_RUNNING), strict=True):
        whole = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0]
        assert list(answer.ids) == whole[len(ids) :].tolist()


def test_a_batch_answers_as_single_prompts_do(runtime: Any, prompts: list[list[int]]) -> None:
    together = runtime.generate(prompts, **FREE_RUNNING)
    assert together == [runtime.generate([ids], **FREE_RUNNING)[0] for ids in prompts]


def test_sampling_depends_on_the_seed_only(runtime: Any, prompts: list[list[int]]) -> None:
    first = runtime.generate(prompts, temperature=1.0, seed=3, **FREE_RUNNING)
    assert runtime.generate(prompts, temperature=1.0, seed=3, **FREE_RUNNING) == first
    assert runtime.generate(prompts[:2], temperature=1.0, seed=3, **FREE_RUNNING) == first[:2]
    assert runtime.generate(prompts, temperature=1.0, seed=4, **FREE_RUNNING) != first
    assert runtime.generate(prompts, **FREE_RUNNING) != first


def test_streaming_gives_the_text_piece_by_piece(runtime: Any, prompts: list[list[int]]) -> None:
    pieces: list[str] = []
    (answer,) = runtime.generate([prompts[1]], on_token=pieces.append, **FREE_RUNNING)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1


def test_max_tokens_and_the_end_of_the_context(runtime: Any, prompts: list[list[int]]) -> None:
    (answer,) = runtime.generate([prompts[0]], max_tokens=3)
    assert (len(answer.ids), answer.stopped) == (3, False)
    assert runtime.generate([prompts[0]], max_tokens=0)[0].ids == ()
    nearly_full = (prompts[2] * 20)[:508]
    (answer,) = runtime.generate([nearly_full], max_tokens=50)
    assert len(answer.ids) <= 4


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "there are no tokens to read"),
        ([1] * 513, "513 tokens do not fit into the context of 512"),
        ([5, -1], "token id -1 is outside the vocabulary of 320"),
        ([5, 320], "token id 320 is outside the vocabulary of 320"),
    ],
)
def test_what_cannot_be_read_is_refused(runtime: Any, ids: list[int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        runtime.logits(ids)
    with pytest.raises(ModelError):
        runtime.generate([ids])


def test_a_full_context_has_no_room_for_an_answer(runtime: Any) -> None:
    assert runtime.logits([1] * 512).shape == (512, 320)
    with pytest.raises(ModelError, match="512 tokens do not fit into the context of 512"):
        runtime.generate([[1] * 512])
