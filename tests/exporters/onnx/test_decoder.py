"""ONNX export against the trained model in transformers, and against itself: same bytes, nothing of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import EdgeftError, InputError, ModelError, RecipeError
from edgeft.exporters import EXPORTS, Exported, ExportSource
from edgeft.exporters.onnx import accept as accepting
from edgeft.exporters.onnx import builder, reference
from edgeft.exporters.onnx import export as door
from edgeft.exporters.onnx.decoder import check, export
from edgeft.exporters.onnx.options import TYPES
from edgeft.files import digest_file, walk_files
from edgeft.progress import Progress
from edgeft.runtimes import open_runtime
from edgeft.weights import open_weights
from tests.models_made import make_llama

Get = Callable[[str], tuple[Path, Exported]]
TEXT = "<|im_start|>user\nTurn the kitchen light on. Что? 12<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"


def digests(folder: Path) -> dict[str, str]:
    return {name: digest_file(path) for name, path in walk_files(folder)}


def test_the_table_names_this_exporter() -> None:
    assert EXPORTS["onnx"].load() is door.export


@pytest.mark.parametrize("type_name", ["fp32", "int8", "int4"])
def test_the_file_is_the_model_that_was_trained(type_name: str, exported: Get, tiny_adapter: Path) -> None:
    folder, done = exported(type_name)
    with open_runtime(tiny_adapter, threads=1) as trained, open_runtime(folder, threads=1) as shipped:
        assert shipped.name == f"onnx {type_name}"
        ids = trained.encode(TEXT)
        assert shipped.encode(TEXT) == ids
        expected, given = trained.logits(ids), shipped.logits(ids)
        # The merged weights are rounded to the base's bfloat16, and then to 8 or 4 bits in blocks.
        assert (
            np.corrcoef(given.ravel(), expected.ravel())[0, 1]
            > {"fp32": 0.9999, "int8": 0.999, "int4": 0.85}[type_name]
        )
        assert shipped.stop_ids == trained.stop_ids
    assert done.facts["type"] == type_name
    assert done.facts["size"] == sum(path.stat().st_size for path in folder.glob("model.onnx*"))


def test_fp32_equals_peft_merged_in_float32_and_rounded_once(
    exported: Get, tiny_llama: Path, tiny_adapter: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(tiny_adapter)).merge_and_unload().eval()
    for parameter in merged.parameters():  # not the buffers: RoPE's frequencies stay float32
        parameter.data = parameter.data.to(torch.bfloat16).float()
    with open_runtime(exported("fp32")[0], threads=1) as shipped:
        ids = shipped.encode(TEXT)
        with torch.inference_mode():
            expected = merged(torch.tensor([ids])).logits[0].numpy()
        assert np.abs(shipped.logits(ids) - expected).max() < 1e-4


@pytest.mark.parametrize("type_name", ["fp32", "int4"])
def test_twice_the_same_bytes(
    type_name: str, exported: Get, tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """From other folders, in another working folder, with another git commit around: the same digests."""
    base = shutil.copytree(tiny_llama, tmp_path / "elsewhere")
    adapter = shutil.copytree(tiny_adapter, tmp_path / "other-adapter")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "again" / "deep"
    source = ExportSource(base, adapter, name="tiny-tuned", base_ref="test/tiny")
    assert export(source, type_name, folder, {}) == exported(type_name)[1]
    assert digests(folder) == digests(exported(type_name)[0])


def test_nothing_of_this_machine_is_in_the_files(exported: Get, tiny_llama: Path, tiny_adapter: Path) -> None:
    import onnx

    folder, _ = exported("int4")
    assert sorted(name for name, _ in walk_files(folder)) == [
        "README.md", "chat_template.jinja", "genai_config.json", "model.onnx", "model.onnx.data", "run.py",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    for _, path in walk_files(folder):
        data = path.read_bytes()
        for trace in (str(folder), str(tiny_llama), str(tiny_adapter), "scratch", "/tmp/", "pytest"):
            assert trace.encode() not in data, (path.name, trace)
    assert "+" not in onnx.load(folder / "model.onnx", load_external_data=False).producer_version


def test_settings_are_those_of_training(exported: Get, tiny_llama: Path) -> None:
    folder, done = exported("int4")
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == [319]
    assert config["model"]["pad_token_id"] == 317
    assert config["model"]["context_length"] == config["search"]["max_length"] == 512
    assert config["search"]["do_sample"] is False
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (tiny_llama / name).read_bytes()
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert done.facts["stop_ids"] == [319]


def test_the_template_and_stop_tokens_of_the_adapter(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 317, "do_sample": True, "top_k": 7}))
    settings = json.loads((base / "tokenizer_config.json").read_text()) | {"model_max_length": 10**30}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
    (adapter / "training.json").write_text(json.dumps({"chat_template": template}))
    folder = tmp_path / "out"
    export(ExportSource(base, adapter), "int4", folder, {"max_length": 100})
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == [317, 319]
    assert (config["search"]["max_length"], config["search"]["top_k"], config["search"]["do_sample"]) == (100, 7, True)
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 512
    with open_runtime(folder) as runtime:
        assert runtime.render([{"role": "user", "content": "Hi"}]) == "[user] Hi<|im_end|>"


def test_the_readmes_python_runs(exported: Get) -> None:
    folder, _ = exported("int4")
    readme = (folder / "README.md").read_text()
    assert "edgeft chat ." in readme
    code = readme.partition("```python\n")[2].partition("```")[0].replace("+ 256", "+ 5")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == ""


def test_it_is_quiet_and_leaves_the_process_as_it_was(
    tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging

    before = (
        list(logging.getLogger().handlers),
        logging.getLogger().level,
        logging.root.manager.disable,
        list(sys.path),
    )
    heard: list[Progress] = []
    export(ExportSource(tiny_llama), "int8", tmp_path / "out", {}, heard.append)
    assert capfd.readouterr() == ("", "")
    assert (
        list(logging.getLogger().handlers),
        logging.getLogger().level,
        logging.root.manager.disable,
        sys.path,
    ) == before
    assert [progress.what for progress in heard][-1] == "done"
    assert not (tmp_path / "out" / ".scratch").exists()


def test_untied_embeddings_are_quantized_too(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "untied", tied=False)
    done = export(ExportSource(base), "int4", tmp_path / "out", {})
    floats = export(ExportSource(base), "int4", tmp_path / "floats", {"embeddings": "float"})
    table = 320 * 256
    assert floats.facts["size"] - done.facts["size"] > 3 * table  # four bytes a value against half of one and scales


def test_int4_options_reach_the_graph(tiny_llama: Path, tmp_path: Path) -> None:
    import onnx

    export(ExportSource(tiny_llama), "int4", tmp_path, {"block_size": 64, "accuracy_level": 1, "head": "same"})
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    found = [
        {attribute.name: attribute.i for attribute in node.attribute}
        for node in graph.node
        if node.op_type == "MatMulNBits"
    ]
    assert len(found) == 2 * 5 + 1
    assert {(entry["bits"], entry["block_size"], entry["accuracy_level"]) for entry in found} == {(4, 64, 1)}


def test_the_head_has_eight_bits(exported: Get) -> None:
    import onnx

    graph = onnx.load(exported("int4")[0] / "model.onnx", load_external_data=False).graph
    bits = {
        node.name: next(attribute.i for attribute in node.attribute if attribute.name == "bits")
        for node in graph.node
        if node.op_type == "MatMulNBits"
    }
    assert {name for name, count in bits.items() if count == 8} == {name for name in bits if "lm_head" in name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocksize": 32}, "the ONNX option 'blocksize'"),
        ({"block_size": 31}, "the ONNX option 'block_size'"),
        ({"max_length": 0}, "the ONNX option 'max_length'"),
        ({"algorithm": "default"}, "`algorithm: default` and `head: int8` do not go together"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        export(ExportSource(tiny_llama), "int4", tmp_path / "out", options)


def test_the_builders_silent_faults_are_refused_by_name(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "untied", tied=False)
    with pytest.raises(RecipeError, match="`algorithm: k_quant` cannot quantize embeddings"):
        export(ExportSource(base), "int4", tmp_path / "out", {"algorithm": "k_quant"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 24}, "attention heads have the size 24; ONNX Runtime needs a multiple of 16"),
        ({"head_dim": None, "hidden_size": 80}, "attention heads have the size 20"),
        ({"architectures": ["BertForSequenceClassification"]}, "does not export the architecture BertForSequence"),
        ({"architectures": None}, r"does not export the architecture \(none\)"),
    ],
)
def test_what_is_refused_before_any_work(
    change: dict[str, Any], message: str, tiny_llama: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    config = json.loads((base / "config.json").read_text()) | change
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        check(base, "int4")
    with pytest.raises(ModelError, match=message):
        export(ExportSource(base), "int4", tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_an_unknown_type(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match="unknown ONNX type 'int3'"):
        check(tiny_llama, "int3")
    for name in TYPES:
        check(tiny_llama, name, {"provider": "cuda"} if name == "bf16" else {})


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("int4", ["is_symmetric=false"], "ONNX Runtime cannot load the exported graph"),
        ("fp16", [], "ONNX Runtime loads the exported graph and cannot run it"),
    ],
)
def test_what_the_builder_breaks_without_an_error_is_not_accepted(
    precision: str, options: list[str], message: str, tiny_llama: Path, tmp_path: Path
) -> None:
    """The reason for the trial run: asymmetric int4 of a tied model does not load, fp16 fails at the second token."""
    builder.build(tiny_llama, tmp_path / "out", precision=precision, options=options, cache=tmp_path / "cache")
    with pytest.raises(EdgeftError, match=message):
        accepting.accept(tmp_path / "out" / "model.onnx", vocab_size=320, head_size=64, type_name="int4")


def test_a_graph_with_infinite_weights_is_not_accepted(exported: Get, tmp_path: Path) -> None:
    folder = shutil.copytree(exported("fp32")[0], tmp_path / "copy")
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:1000] + b"\x00\x00\x80\x7f" * 5000 + data.read_bytes()[21_000:])
    with pytest.raises(EdgeftError, match="not numbers"):
        accepting.accept(folder / "model.onnx", vocab_size=320, head_size=64, type_name="fp32")


def test_a_failed_export_leaves_no_scratch(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from edgeft.exporters.onnx import decoder

    def fail(*_: Any, **__: Any) -> None:
        raise EdgeftError("no")

    monkeypatch.setattr(decoder, "build", fail)
    with pytest.raises(EdgeftError, match="no"):
        export(ExportSource(tiny_llama, tiny_adapter), "int4", tmp_path, {})
    assert not (tmp_path / ".scratch").exists()


def test_the_builders_own_fault_is_told_in_one_line(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"onnxruntime-genai's builder failed: invalid literal"):
        builder.build(tiny_llama, tmp_path, precision="int4", options=["block_size=many"], cache=tmp_path / "cache")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    shutil.copy(tiny_llama / "tokenizer.json", tmp_path)
    with pytest.raises(ModelError, match="does not know this architecture"):
        builder.build(tmp_path, tmp_path / "out", precision="fp32", options=[], cache=tmp_path / "cache")


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_embeddings_in_8_bits(tied: bool, tmp_path: Path) -> None:
    """int8 looks its embeddings up in 8 bits, off by half a step at most, with the same logits from both engines."""
    import onnx
    import torch
    from safetensors.torch import load_file

    from edgeft.runtimes.onnx import open_onnx

    base = make_llama(tmp_path / "base", tied=tied, dtype="float32", hidden=192, vocab_size=341)
    sizes, logits = {}, {}
    for embeddings in ("quantized", "float"):
        done = export(ExportSource(base), "int8", tmp_path / embeddings, {"embeddings": embeddings, "block_size": 64})
        assert done.facts["options"]["embeddings"] == embeddings
        sizes[embeddings] = done.facts["size"]
        with open_onnx(tmp_path / embeddings, engine="plain", threads=1) as plain:
            assert plain.name == "onnx int8"
            ids = plain.encode(TEXT)
            logits[embeddings] = plain.logits(ids)
    with open_onnx(tmp_path / "quantized", engine="genai", threads=1) as runtime:
        assert np.abs(runtime.logits(ids) - logits["quantized"]).max() < 1e-3
    assert np.corrcoef(logits["quantized"].ravel(), logits["float"].ravel())[0, 1] > 0.999
    table = 4 * 341 * 192
    assert sizes["float"] - sizes["quantized"] > 0.6 * table
    model = onnx.load(tmp_path / "quantized" / "model.onnx")
    (node,) = [node for node in model.graph.node if node.op_type == "GatherBlockQuantized"]
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    packed, scales = arrays[node.input[0]].astype(np.float32), np.repeat(arrays[node.input[2]], 64, axis=1)
    wanted = load_file(base / "model.safetensors")["model.embed_tokens.weight"].to(torch.float32).numpy()
    assert (np.abs((packed - 128) * scales - wanted) <= 0.5 * scales + 1e-6).all()
    done = export(ExportSource(base), "int8", tmp_path / "stock", {"builder": "stock"})
    assert done.facts["options"]["embeddings"] == "float"


def test_a_graph_that_answers_otherwise_is_not_accepted(tiny_llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The builder's graph of other weights than those that are to ship."""
    from edgeft.exporters.onnx import decoder

    other = make_llama(tmp_path / "other", seed=5)
    monkeypatch.setattr(
        decoder, "logits_of", lambda checkpoint, _, ids: reference.logits_of(checkpoint, open_weights(other), ids)
    )
    with pytest.raises(EdgeftError, match="the exported graph is not the model that went in: mean KL divergence"):
        export(ExportSource(tiny_llama), "fp32", tmp_path / "out", {})
    done = export(ExportSource(tiny_llama), "fp32", tmp_path / "unchecked", {"check": False})
    assert done.facts["compared"] is None


def test_the_comparison_is_told(exported: Get) -> None:
    _, done = exported("fp32")
    told = done.facts["compared"]
    assert told["tokens"] > 8
    assert told["top1_agreement"] == 1.0
    assert told["furthest_logit"] < 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_layer_by_layer_is_the_model(tied: bool, tmp_path: Path) -> None:
    """The reference's logits are transformers' own, with weights that come and go."""
    import torch
    from transformers import AutoModelForCausalLM

    base = make_llama(tmp_path / "base", tied=tied)
    ids = [5, 6, 7, 300, 12, 5]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    found = reference.logits_of(base, open_weights(base), ids)
    assert np.abs(found - expected).max() < 1e-4


def test_ties_are_those_of_transformers() -> None:
    """What config.json leaves out, as the config classes fill it in."""
    from transformers import AutoConfig

    from edgeft.exporters.onnx.decoder import _is_tied

    kinds = (
        "ernie4_5", "gemma", "gemma2", "gemma3_text", "granite", "granitemoehybrid", "hunyuan_v1_dense", "lfm2",
        "llama", "mistral", "nemotron", "olmo", "phi", "phi3", "qwen2", "qwen3",
    )  # fmt: skip
    for kind in kinds:
        config = AutoConfig.for_model(kind)
        assert _is_tied({"model_type": kind}) == config.tie_word_embeddings, kind
        for said in (True, False):
            assert _is_tied({"model_type": kind, "tie_word_embeddings": said}) is said
    assert _is_tied({"model_type": "lfm2", "tie_embedding": False}) is False


def test_its_readme_asks_as_training_did(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    (adapter / "training.json").write_text(json.dumps({"system": 'Be "brief".'}))
    export(ExportSource(tiny_llama, adapter), "int4", tmp_path / "out", {"check": False})
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    assert """    python run.py --system 'Be "brief".'""" in lines
    assert """    edgeft chat . --system 'Be "brief".'""" in lines
    asked = [{"role": "system", "content": 'Be "brief".'}, {"role": "user", "content": "Hello"}]
    assert f"messages = {json.dumps(asked)}" in lines
