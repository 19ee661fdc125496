"""Adapters kept apart, against peft: one base in ONNX Runtime, switched between adapters of several ranks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import ModelError, RecipeError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.decoder import export
from edgeft.runtimes.onnx import open_onnx
from tests.models_made import make_adapter

IDS = list(range(40, 60))


@pytest.fixture(scope="module")
def other(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another rank and scale than the session's adapter, and of two projections only."""
    folder = tmp_path_factory.mktemp("other") / "adapter"
    return make_adapter(folder, tiny_llama, r=4, seed=5, targets=("q_proj", "down_proj"), use_rslora=True)


def of_peft(base: Path, adapter: Path | None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0].numpy()


@pytest.mark.parametrize(("type_name", "near"), [("fp32", 1e-4), ("fp16", 0.05)])
def test_switched_at_run_time_the_logits_are_pefts(
    type_name: str, near: float, tiny_llama: Path, tiny_adapter: Path, other: Path, tmp_path: Path
) -> None:
    """In onnxruntime-genai itself: one model, two adapter files, five turns."""
    import onnxruntime_genai as genai

    done = export(ExportSource(tiny_llama, tiny_adapter, name="one"), type_name, tmp_path / "one", {"adapter": "apart"})
    export(ExportSource(tiny_llama, other, name="two"), type_name, tmp_path / "two", {"adapter": "only"})
    assert done.facts["adapter"] == "apart"
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["README.md", "two.onnx_adapter"]
    model = genai.Model(str(tmp_path / "one"))
    adapters = genai.Adapters(model)
    for name in ("one", "two"):
        adapters.load(str(tmp_path / name / f"{name}.onnx_adapter"), name)

    def logits(name: str | None) -> Any:
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=64)
        generator = genai.Generator(model, parameters)
        if name:
            generator.set_active_adapter(adapters, name)
        generator.append_tokens(np.array(IDS, dtype=np.int32))
        return np.asarray(generator.get_output("logits"), dtype=np.float32).reshape(-1, 320)[-len(IDS) :]

    expected = {
        name: of_peft(tiny_llama, folder) for name, folder in (("one", tiny_adapter), ("two", other), ("", None))
    }
    assert np.abs(expected["one"] - expected["two"]).max() > 1
    for name in ("", "one", "two", "", "one"):
        assert np.abs(logits(name) - expected[name]).max() < near


def test_the_runtimes_activate_it(tiny_llama: Path, tiny_adapter: Path, other: Path, tmp_path: Path) -> None:
    """Quantized: the adapter stays in floats beside the base's int8. Both engines, by name where there are two."""
    folder = tmp_path / "one"
    export(ExportSource(tiny_llama, tiny_adapter, name="one"), "int8", folder, {"adapter": "apart"})
    export(ExportSource(tiny_llama, other, name="two"), "int8", tmp_path / "two", {"adapter": "only"})
    for engine in ("genai", "plain"):
        with open_onnx(folder, engine=engine, threads=1) as tuned:  # type: ignore[arg-type]
            near = np.corrcoef(tuned.logits(IDS).ravel(), of_peft(tiny_llama, tiny_adapter).ravel())[0, 1]
        with open_onnx(folder, engine=engine, threads=1, adapter="") as base:  # type: ignore[arg-type]
            plain = np.corrcoef(base.logits(IDS).ravel(), of_peft(tiny_llama, None).ravel())[0, 1]
        assert min(near, plain) > 0.999
    shutil.copy(tmp_path / "two" / "two.onnx_adapter", folder)
    with pytest.raises(ModelError, match="2 adapters lie beside the graph"):
        open_onnx(folder)
    found = [open_onnx(folder, engine=engine, threads=1, adapter="two").logits(IDS) for engine in ("genai", "plain")]
    assert np.array_equal(*found)
    assert np.corrcoef(found[0].ravel(), of_peft(tiny_llama, other).ravel())[0, 1] > 0.999


def test_what_a_file_cannot_hold(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    dora = make_adapter(tmp_path / "dora", tiny_llama, use_dora=True)
    with pytest.raises(ModelError, match="cannot hold DoRA's magnitudes"):
        export(ExportSource(tiny_llama, dora), "fp32", tmp_path / "out", {"adapter": "apart"})
    biased = make_adapter(tmp_path / "biased", tiny_llama, lora_bias=True)
    with pytest.raises(ModelError, match="cannot hold trained biases"):
        export(ExportSource(tiny_llama, biased), "fp32", tmp_path / "out", {"adapter": "apart"})
    with pytest.raises(RecipeError, match="needs an adapter, and there is none"):
        export(ExportSource(tiny_llama), "fp32", tmp_path / "out", {"adapter": "apart"})
    options = {"adapter": "apart", "layout": "transformers.js"}
    with pytest.raises(RecipeError, match=r"transformers\.js reads no adapter files"):
        export(ExportSource(tiny_llama, tiny_adapter), "fp32", tmp_path / "out", options)
