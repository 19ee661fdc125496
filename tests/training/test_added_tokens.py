"""Tokens that the base did not have: their rows are learnt at both ends, and everything that is made of the adapter
carries them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeft.exporters import ExportSource
from edgeft.models import base, grown
from edgeft.progress import silent
from edgeft.weights import open_weights
from tests.models_made import make_llama
from tests.training.made import make_dataset, run_training

TOKENS = ["<lamp>", "<room>"]
TEXT = "Turn the<lamp> of the<room> on"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def trained(request: pytest.FixtureRequest, cache: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the base without the tokens, an adapter trained on rows that hold them)."""
    place = tmp_path_factory.mktemp("added")
    folder = make_llama(place / "base", tied=request.param)
    whole = base.resolve(grown.joined(str(folder), TOKENS))
    data = make_dataset(place / "data", whole, 16, texts={"light": "<lamp>", "kitchen": "<room>"})
    run_training(place / "adapter", whole, data, adapter="lora", max_steps=3, learning_rate=5e-2, warmup_ratio=0.0)
    return folder, place / "adapter"


def grown_of(folder: Path) -> Path:
    return base.resolve(grown.joined(str(folder), TOKENS))


def test_the_merged_model_is_pefts_own(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """peft on the original base, resized by transformers: it needs nothing but the adapter's folder."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, adapter = trained
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    ids = tokenizer(TEXT)["input_ids"]
    assert {320, 321} <= set(ids)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    plain.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    theirs = PeftModel.from_pretrained(plain, adapter).merge_and_unload().state_dict()
    ours = open_weights(grown_of(folder), adapter, merge_base="pristine")
    first = load_file(grown_of(folder) / "model.safetensors")
    for name, tensor in ours.items():
        assert torch.equal(tensor.read(), theirs[name]), name
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in ours:
            changed = (ours[name].read() != first[name]).any(dim=1).nonzero().flatten().tolist()
            assert changed == [320, 321], name
    assert len(ours) == len(first)


def test_the_adapters_files_tell_of_the_tokens(trained: tuple[Path, Path]) -> None:
    folder, adapter = trained
    training = json.loads((adapter / "training.json").read_text())
    assert grown.split(training["base"]["ref"])[1] in ([], TOKENS)
    assert {"tokenizer.json", "tokenizer_config.json"} <= {path.name for path in adapter.iterdir()}
    card = (adapter / "README.md").read_text()
    assert str(folder) not in card


def test_the_gguf_file_carries_them(trained: tuple[Path, Path], tmp_path: Path) -> None:
    from edgeft.exporters.gguf.export import export
    from edgeft.runtimes import open_runtime

    folder, adapter = trained
    source = ExportSource(grown_of(folder), adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")
    done = export(source, "f16", tmp_path, {"threads": 1}, silent)
    with open_runtime(tmp_path / done.facts["file"]) as runtime, open_runtime(adapter, base=grown_of(folder)) as tuned:
        ids = runtime.encode(TEXT)
        assert list(ids) == list(tuned.encode(TEXT))
        assert {320, 321} <= set(ids)
        assert runtime.vocab_size == 322


@pytest.mark.slow
def test_the_onnx_file_carries_them(trained: tuple[Path, Path], tmp_path: Path) -> None:
    from edgeft.exporters.onnx.decoder import export
    from edgeft.runtimes import open_runtime

    folder, adapter = trained
    source = ExportSource(grown_of(folder), adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")
    export(source, "fp32", tmp_path / "onnx", {}, silent)
    with open_runtime(tmp_path / "onnx") as runtime, open_runtime(adapter, base=grown_of(folder)) as tuned:
        ids = list(runtime.encode(TEXT))
        assert ids == list(tuned.encode(TEXT))
        difference = abs(runtime.logits(ids) - tuned.logits(ids)).max()
        assert difference < 0.1, "the merged weights are rounded to bfloat16 once, no more"
