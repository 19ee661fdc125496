"""Streamed ONNX exports against onnxruntime-genai's builder as it is (the same bytes), and against transformers."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import EdgeftError, ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx import decoder, nbits, slabs, streamed
from edgeft.exporters.onnx.builder import build
from edgeft.exporters.onnx.decoder import export
from edgeft.exporters.onnx.late import NotCarried
from edgeft.files import digest_file
from edgeft.runtimes.onnx import open_onnx
from edgeft.weights import open_weights
from tests.exporters.gguf.families_made import make_model
from tests.models_made import make_adapter, make_llama

TYPES = ("fp32", "fp16", "int8", "int4")
# The families that are written as GGUF and that the builder supports, with their variants.
FAMILIES = (
    "llama", "llama biases", "mistral", "mistral older", "qwen2", "qwen2 older", "qwen3", "gemma", "gemma2", "gemma3",
    "phi3", "phi3 long", "phi3 older", "phi4 mini", "granite", "granite 4", "ernie4_5", "lfm2", "lfm2 older",
)  # fmt: skip
# How far fp32 logits may lie from transformers'. The builder rounds Gemma's activation (a GELU) otherwise.
NEAR = {"gemma": 0.1, "gemma2": 0.1, "gemma3": 0.1}
IDS = [int(token) for token in np.random.default_rng(0).integers(0, 300, 40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("families")
    return functools.cache(lambda name: make_model(root / name.replace(" ", "-"), name))


def digests(folder: Path) -> dict[str, str]:
    """Of the graph, its data and its settings: what the two ways may not differ in."""
    return {name: digest_file(folder / name) for name in ("model.onnx", "model.onnx.data", "genai_config.json")}


def both(source: ExportSource, type_name: str, root: Path, **options: Any) -> list[dict[str, str]]:
    found = []
    if type_name == "int8":  # the builder knows no embeddings in 8 bits
        options = {"embeddings": "float", **options}
    for way in ("streamed", "stock"):
        done = export(source, type_name, root / way, {**options, "builder": way})
        assert done.facts["builder"] == way
        found.append(digests(root / way))
    return found


@pytest.mark.parametrize("type_name", TYPES)
def test_the_bytes_of_the_builder_with_an_adapter_folded_in(
    type_name: str, tiny_llama: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    ours, theirs = both(ExportSource(tiny_llama, tiny_adapter), type_name, tmp_path)
    assert ours == theirs


def test_nothing_merged_is_written(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen = []
    monkeypatch.setattr(decoder, "build", lambda checkpoint, *_, **__: seen.extend(checkpoint.iterdir()))
    with pytest.raises(FileNotFoundError):
        export(ExportSource(tiny_llama, tiny_adapter), "int4", tmp_path, {})
    assert seen
    assert not [path for path in seen if path.suffix == ".safetensors"]


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "rtn", "symmetric": False},
        {"algorithm": "k_quant", "layers": "int8", "block_size": 16},
        {"algorithm": "default", "head": "same", "block_size": 128},
        {"algorithm": "default", "embeddings": "float", "symmetric": False},
        {"device": "web"},
        {"device": "mobile"},
        {"provider": "cuda", "layers": "int8", "algorithm": "default", "head": "same"},
        {"provider": "dml"},
    ],
    ids=str,
)
@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_way_of_int4(options: dict[str, Any], tied: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """Also with weights that are quantized, and floats that are written, in many slabs."""
    if not tied and options.get("algorithm") in ("rtn", "k_quant"):
        options = {**options, "embeddings": "float"}
    if not tied:
        options = {key: value for key, value in options.items() if (key, value) != ("head", "same")}
    elif options.get("algorithm") == "default" and "head" not in options and "embeddings" not in options:
        options = {**options, "head": "same"}
    monkeypatch.setattr(nbits, "_SLAB", 100_000)
    monkeypatch.setattr(slabs, "_SLAB", 50_000)
    monkeypatch.setattr(slabs, "_AT_ONCE", 10_000)
    base = make_llama(tmp_path / "base", tied=tied, hidden=192, intermediate=448, vocab_size=341)
    ours, theirs = both(ExportSource(base), "int4", tmp_path, **options)
    assert ours == theirs


@pytest.mark.parametrize(
    "type_name", ["fp32", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp16", "int8"))]
)
def test_slabs_of_floats_and_int8(type_name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(nbits, "_SLAB", 100_000)
    monkeypatch.setattr(slabs, "_SLAB", 50_000)
    monkeypatch.setattr(slabs, "_AT_ONCE", 10_000)
    for tied in (True, False):
        base = make_llama(tmp_path / f"base{tied}", tied=tied, vocab_size=341)
        ours, theirs = both(ExportSource(base), type_name, tmp_path / f"out{tied}")
        assert ours == theirs


def test_bf16_for_cuda_is_the_builders_too(tiny_llama: Path, tmp_path: Path) -> None:
    """Built only: no CPU runs it, so `export` refuses it where there is no CUDA."""
    described = shutil.copytree(tiny_llama, tmp_path / "described", ignore=shutil.ignore_patterns("*.safetensors"))
    options = ["hf_token=false"]
    for name, folder, weights in (("a", tiny_llama, None), ("b", described, open_weights(tiny_llama))):
        build(
            folder, tmp_path / name, precision="bf16", options=options, cache=tmp_path / f"cache-{name}",
            provider="cuda", weights=weights,
        )  # fmt: skip
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(EdgeftError, match="runs bf16 on CUDA devices only"):
        export(ExportSource(tiny_llama), "bf16", tmp_path / "out", {"provider": "cuda"})


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "lfm2", "phi3 long"])
def test_logits_and_text_are_those_of_transformers(name: str, made: Any, tmp_path: Path) -> None:
    check_fp32(name, made(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str, made: Any, tmp_path: Path) -> None:
    """Streamed is stock for every type, and fp32 answers as transformers does."""
    for type_name in TYPES:
        ours, theirs = both(ExportSource(made(name)), type_name, tmp_path / type_name)
        assert ours == theirs, type_name
    check_fp32(name, made(name), tmp_path / "logits")


def check_fp32(name: str, base: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    export(ExportSource(base), "fp32", folder, {})
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
        text = model.generate(torch.tensor([IDS]), max_new_tokens=12, do_sample=False)[0, len(IDS) :].tolist()
    for engine in ("genai", "plain"):
        with open_onnx(folder, engine=engine, threads=1) as runtime:  # type: ignore[arg-type]
            assert np.abs(runtime.logits(IDS) - expected).max() < NEAR.get(name, 1e-4)
            assert list(runtime.generate([IDS], max_tokens=12)[0].ids) == text


@pytest.mark.parametrize("name", ["llama yarn", "gemma3 linear"])
def test_what_the_builder_gets_wrong_is_refused(name: str, made: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its rotation"):
        export(ExportSource(made(name)), "fp32", tmp_path, {})


def weights_of(base: Path) -> dict[str, Any]:
    return dict(open_weights(base))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), r"the checkpoint has no weight 'model\.norm\.weight'"),
        (
            lambda w: w.update({"extra.weight": w["model.norm.weight"]}),
            r"'extra\.weight' is no weight of LlamaForCausal",
        ),
        (
            lambda w: w.update({"model.norm.weight": w["model.embed_tokens.weight"]}),
            r"'model\.norm\.weight' is \(320, 256\), the model wants \(256,\)",
        ),
    ],
)
def test_weights_that_have_no_place(change: Any, message: str, tiny_llama: Path, tmp_path: Path) -> None:
    weights = weights_of(tiny_llama)
    change(weights)
    with pytest.raises(NotCarried, match=message) as caught:
        build(
            tiny_llama, tmp_path / "out", precision="fp32", options=[], cache=tmp_path / "cache", weights=weights
        )  # fmt: skip
    assert "--builder stock" in str(caught.value.do)


def test_what_the_hooks_do_not_carry_is_refused_by_name(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(NotCarried, match=r"does not carry QDQ nodes \(use_qdq\)"):
        build(
            tiny_llama, tmp_path / "out", precision="int4", options=["use_qdq=true"], cache=tmp_path / "cache",
            weights=open_weights(tiny_llama),
        )  # fmt: skip


def test_another_version_of_the_builder(tiny_llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(streamed, "VERSIONS", ("0.1.2",))
    with pytest.raises(NotCarried, match=r"knows onnxruntime-genai 0\.1\.2, installed is"):
        export(ExportSource(tiny_llama), "int4", tmp_path / "out", {})
    done = export(ExportSource(tiny_llama), "int4", tmp_path / "auto", {"builder": "auto"})
    assert done.facts["builder"] == "stock"
    assert done.facts["warnings"] == [
        f"built the stock way, in memory: the streamed export knows onnxruntime-genai 0.1.2, installed is "
        f"{__import__('onnxruntime_genai').__version__}"
    ]


def test_the_builders_methods_are_put_back(tiny_llama: Path, tmp_path: Path) -> None:
    from onnxruntime_genai.models import builder

    before = {name: builder.Model.__dict__[name] for name in ("load_weights", "make_initializer", "to_nbits")}
    export(ExportSource(tiny_llama), "int4", tmp_path / "out", {})
    with pytest.raises(NotCarried):
        build(
            tiny_llama, tmp_path / "no", precision="fp32", options=[], cache=tmp_path / "cache", weights={}
        )  # fmt: skip
    assert before == {name: builder.Model.__dict__[name] for name in before}


def test_a_lora_on_a_dequantized_base(tiny_llama: Path, tmp_path: Path) -> None:
    """The base as QLoRA trained it: the merged checkpoint's way and ours fold into the same values."""
    import json

    adapter = make_adapter(tmp_path / "adapter", tiny_llama)
    names = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(2)]
    table = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32", "weights": names}
    (adapter / "training.json").write_text(json.dumps({"quantization": table}))
    ours, theirs = both(ExportSource(tiny_llama, adapter), "fp32", tmp_path)
    assert ours == theirs
    export(ExportSource(tiny_llama, adapter, merge_base="pristine"), "fp32", tmp_path / "pristine", {})
    assert digests(tmp_path / "pristine") != ours
