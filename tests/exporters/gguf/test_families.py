"""Every family in llama.cpp's runtime against Transformers; against llama.cpp's converter and quantizer in
test_families_oracle.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from tests.exporters.gguf.families_made import MODELS, make_model

IDS = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200, 61, 150, 88, 9, 31, 276, 12, 140]
MORE = 24  # greedy tokens


def gguf_of(base: Path, type_name: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    done = export(ExportSource(base, name="base", base_ref="x"), type_name, folder, {"threads": 1})
    return folder / str(done.facts["file"])


def transformers_says(base: Path, new: int) -> tuple[Any, list[int]]:
    """Logits of every position, and a greedy continuation."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits[0].numpy()
    found = model.generate(ids, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
    return logits, found[0, len(IDS) :].tolist()


def llama_cpp_says(path: Path, new: int, context: int = 256) -> tuple[Any, list[int]]:
    """The same of llama.cpp, with a float32 cache of keys and values."""
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    model = llama_cpp.Llama(str(path), n_ctx=context, logits_all=True, verbose=False, n_threads=1, **exact)
    try:
        model.eval(IDS)
        logits = np.array(model.scores[: len(IDS)])
        found: list[int] = []
        for token in model.generate(IDS, temp=0.0, reset=True):
            found.append(token)
            if len(found) == new:
                return logits, found
    finally:
        model.close()
    raise AssertionError("llama.cpp stopped")


def assert_same_answers(base: Path, path: Path, context: int = 256, new: int = 8, limit: float = 1e-5) -> None:
    want, text = transformers_says(base, new)
    got, found = llama_cpp_says(path, new, context)
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error < limit, error
    assert np.array_equal(got.argmax(-1), want.argmax(-1))
    assert found == text


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_answers_as_transformers_does(name: str, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", name)
    row = MODELS[name]
    path = gguf_of(base, "f32", tmp_path / "out")
    assert_same_answers(base, path, row.context, limit=2e-3 if row.gelu else 1e-5)
