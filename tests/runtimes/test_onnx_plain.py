"""Plain ONNX Runtime against onnxruntime-genai: the same files, the same logits, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import MissingError, ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.decoder import export
from edgeft.runtimes import onnx
from edgeft.runtimes.onnx import OnnxRuntime, open_onnx
from edgeft.runtimes.onnx_plain import PlainOnnxRuntime

TEXT = "<|im_start|>user\nTurn the kitchen light on.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(type_name: str) -> Path:
        if type_name not in made:
            made[type_name] = tmp_path_factory.mktemp(type_name)
            export(ExportSource(tiny_llama), type_name, made[type_name], {})
        return made[type_name]

    return get


@pytest.mark.parametrize("type_name", ["fp32", "fp16", "int8", "int4"])
def test_the_same_logits_and_answers(type_name: str, folder: Any) -> None:
    path = folder(type_name)
    with (
        open_onnx(path, engine="genai", threads=1) as genai,
        open_onnx(path, engine="plain", threads=1) as plain,
    ):
        assert (genai.name, genai.stop_ids, genai.vocab_size) == (plain.name, plain.stop_ids, plain.vocab_size)
        ids = genai.encode(TEXT)
        assert plain.encode(TEXT) == ids
        assert np.array_equal(genai.logits(ids), plain.logits(ids))
        assert plain.logits(ids).dtype == np.float32
        for temperature in (0.0, 0.8):
            prompts = [ids, ids[:7]]
            answers = [
                runtime.generate(prompts, max_tokens=9, temperature=temperature, seed=3) for runtime in (genai, plain)
            ]
            assert [one.ids for one in answers[0]] == [one.ids for one in answers[1]]


def test_long_rows_are_read_in_pieces(folder: Any, monkeypatch: Any) -> None:
    from edgeft.runtimes import onnx_plain

    with open_onnx(folder("fp32"), engine="plain", threads=1) as plain:
        ids = plain.encode(TEXT)
        whole = plain.logits(ids)
        monkeypatch.setattr(onnx_plain, "_KEPT_OUTPUTS", 1)
        assert np.abs(plain.logits(ids) - whole).max() < 1e-4
        with pytest.raises(ModelError, match="do not fit into the context"):
            plain.logits(ids * 100)


def test_it_takes_over_where_genai_is_not_installed(folder: Any, monkeypatch: Any) -> None:
    path = folder("fp32")
    assert isinstance(open_onnx(path), OnnxRuntime)
    there = onnx.find_spec
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxruntime_genai" else there(name))
    assert isinstance(open_onnx(path), PlainOnnxRuntime)
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="this needs onnx"):
        open_onnx(path)
