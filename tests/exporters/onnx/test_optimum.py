"""`backend: optimum`: the graph that Hugging Face's optimum makes of base and adapter, run here and by its own classes.

Most of it needs an environment with optimum-onnx: `make test-optimum` makes one and runs these.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import MissingError, ModelError, RecipeError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx import optimum
from edgeft.exporters.onnx.decoder import check, export
from edgeft.exporters.onnx.options import parse_options
from edgeft.runtimes import open_runtime

TEXT = "<|im_start|>user\nTurn the kitchen light on. Что? 12<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"
ORT_MODEL = """
import sys, json, numpy as np, torch
from optimum.onnxruntime import ORTModelForCausalLM
model = ORTModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True, use_cache=True)
ids = torch.tensor([json.loads(sys.argv[2])])
np.save(sys.argv[3], model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().numpy())
print(json.dumps(model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:].tolist()))
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that has optimum-onnx."""
    try:
        return optimum.python_with_optimum()
    except MissingError:
        pytest.skip("no environment with optimum-onnx: make test-optimum")


@pytest.fixture(scope="session")
def exported(python: Path, tiny_llama: Path, tiny_adapter: Path, tmp_path_factory: Any) -> dict[str, Path]:
    """type -> folder, of a base whose rotary base is not transformers' default."""
    made = tmp_path_factory.mktemp("optimum")
    base = shutil.copytree(tiny_llama, made / "base")
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 123_456.0}
    config.pop("rope_theta", None)
    (base / "config.json").write_text(json.dumps(config))
    folders = {"base": base}
    for type_name in ("fp32", "int8", "int4"):
        folders[type_name] = made / type_name
        folders[type_name].mkdir()
        source = ExportSource(base, tiny_adapter, name="tiny-tuned", base_ref="test/tiny")
        done = export(source, type_name, folders[type_name], {"backend": "optimum"})
        assert done.facts["made_by"]["transformers"].startswith("4.")
        assert (done.facts["type"], done.facts["backend"]) == (type_name, "optimum")
    return folders


@pytest.mark.slow
def test_the_file_is_the_model_that_was_trained(exported: dict[str, Path], tiny_adapter: Path) -> None:
    with open_runtime(tiny_adapter, base=exported["base"], threads=1) as trained:
        ids = trained.encode(TEXT)
        expected = trained.logits(ids)
        for type_name, least in (("fp32", 0.9999), ("int8", 0.999), ("int4", 0.85)):
            with open_runtime(exported[type_name], threads=1) as shipped:
                assert shipped.encode(TEXT) == ids
                assert shipped.stop_ids == trained.stop_ids
                assert np.corrcoef(shipped.logits(ids).ravel(), expected.ravel())[0, 1] > least, type_name
    sizes = {
        name: sum(path.stat().st_size for path in exported[name].glob("model.onnx*"))
        for name in ("fp32", "int8", "int4")
    }
    assert sizes["int4"] < sizes["int8"] < sizes["fp32"]


@pytest.mark.slow
def test_optimum_opens_the_folder_and_answers_alike(exported: dict[str, Path], python: Path, tmp_path: Path) -> None:
    with open_runtime(exported["fp32"], threads=1) as shipped:
        ids = shipped.encode(TEXT)
        logits, answer = shipped.logits(ids), shipped.generate([ids], max_tokens=12)[0]
    done = subprocess.run(
        [python, "-I", "-c", ORT_MODEL, exported["fp32"], json.dumps(ids), tmp_path / "logits.npy"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.abs(np.load(tmp_path / "logits.npy") - logits).max() < 1e-4
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    assert theirs[: len(answer.ids)] == list(answer.ids)


@pytest.mark.slow
def test_what_optimum_does_not_export_is_said_in_its_words(python: Path, tiny_llama: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "nothing_known"}))
    with pytest.raises(ModelError, match=r"optimum does not export this model: .*nothing_known"):
        optimum.build(base, tmp_path / "out", python=python)


def test_rotary_embeddings_are_said_as_transformers_4_reads_them(tmp_path: Path) -> None:
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": scaled, "dtype": "bfloat16"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend", "a": 1}))
    optimum.for_transformers_4(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "torch_dtype": "bfloat16",
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
    }
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert told == {"tokenizer_class": "PreTrainedTokenizerFast", "a": 1}


def test_rotary_embeddings_by_layer_type_are_refused(tmp_path: Path) -> None:
    each = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": each}))
    with pytest.raises(ModelError, match="differ from layer to layer"):
        optimum.for_transformers_4(tmp_path)


def test_without_optimum_the_command_that_installs_it_is_named(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(optimum.PYTHON, sys.executable)  # has edgeft's transformers, so it cannot have optimum-onnx
    with pytest.raises(MissingError, match="this needs optimum-onnx in an environment of its own") as caught:
        check(tiny_llama, "fp32", {"backend": "optimum"})
    assert "pip install 'edgeft[optimum]'" in str(caught.value)
    with pytest.raises(MissingError):
        export(ExportSource(tiny_llama, None, base_ref="test/tiny"), "fp32", tmp_path, {"backend": "optimum"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["algorithm", "head", "layers", "embeddings", "builder"])
def test_options_of_the_other_backend_are_refused(name: str) -> None:
    values = {"algorithm": "rtn", "head": "same", "layers": "int8", "embeddings": "float", "builder": "stock"}
    with pytest.raises(RecipeError, match=f"'{name}' means nothing to backend: optimum"):
        parse_options({"backend": "optimum", name: values[name]})
