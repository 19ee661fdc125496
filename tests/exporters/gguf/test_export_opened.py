"""Exported files in llama.cpp: it answers as Transformers does, and finds the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch

from edgeft.exporters import ExportSource
from edgeft.weights import open_weights
from tests.exporters.gguf.made import exported
from tests.models_made import make_llama


def assert_same_answers(source: ExportSource, model: llama_cpp.Llama) -> None:
    """Logits agree with Transformers to float16's accuracy, and greedy continuations word for word."""
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(source.base, dtype=torch.float32).eval()
    weights = open_weights(source.base, source.adapter, merge_base=source.merge_base)
    merged.load_state_dict({name: tensor.read().float() for name, tensor in weights.items()}, strict=False)
    ids = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200]
    with torch.no_grad():
        want = merged(torch.tensor([ids])).logits[0].numpy()
    model.reset()
    model.eval(ids)
    got = np.array(model.scores[: len(ids)])
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()
    assert np.array_equal(got.argmax(-1), want.argmax(-1))
    greedy = merged.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    found: list[int] = []
    for token in model.generate(ids, temp=0.0, reset=True):
        found.append(token)
        if len(found) == 12:
            break
    assert found == greedy[0, len(ids) :].tolist()


def test_llama_cpp_answers_as_transformers_does(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    assert_same_answers(source, opened(exported(source, "f16", tmp_path)[0]))


@pytest.mark.parametrize(
    "rope",
    [
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    ],
    ids=["llama3", "linear"],
)
def test_rope_scaling(rope: dict[str, Any], opened: Any, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=32, heads=4, rope_parameters=rope)
    source = ExportSource(base)
    assert_same_answers(source, opened(exported(source, "f32", tmp_path / "out")[0]))


def test_biases_and_an_untied_head(opened: Any, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, tied=False, attention_bias=True)
    weights = {name: tensor.read() for name, tensor in open_weights(base).items()}
    generator = torch.Generator().manual_seed(5)
    for name, values in weights.items():
        if name.endswith(".bias"):
            weights[name] = torch.randn(values.shape, generator=generator).to(values.dtype)
    from safetensors.torch import save_file

    save_file(weights, base / "model.safetensors", {"format": "pt"})
    source = ExportSource(base)
    assert_same_answers(source, opened(exported(source, "f32", tmp_path / "out")[0]))


def test_token_ids_and_stop_tokens(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from edgeft.evals.awkward import STRINGS

    model = opened(exported(source, "q8_0", tmp_path)[0])
    tokenizer = Tokenizer.from_file(str(source.base / "tokenizer.json"))
    compared = 0
    for string in STRINGS:
        if string.required:
            compared += 1
            found = model.tokenize(string.text.encode(), add_bos=False, special=True)
            assert found == tokenizer.encode(string.text).ids, string.name
    assert compared > 20
    assert model.tokenize(b"hello", add_bos=True)[0] != model.token_bos()  # add_bos is off
    assert model.token_eos() == tokenizer.token_to_id("<|im_end|>")
