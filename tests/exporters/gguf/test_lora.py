"""An adapter alone as GGUF: on a base file, llama.cpp computes what peft computes; what cannot be said is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from edgeft.errors import InputError, ModelError
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf.export import export as export_model
from edgeft.exporters.gguf.lora import TYPES, base_of, check, export
from edgeft.progress import silent
from edgeft.runtimes import open_runtime
from tests.exporters.gguf.converter import convert, convert_lora, source_folder
from tests.exporters.gguf.families_made import make_model
from tests.models_made import make_adapter, make_llama

IDS = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200]
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {"alpha": 24},
    "rslora": {"use_rslora": True},
    "alphas": {"alpha_pattern": {"q_proj": 40, "layers.1.mlp.down_proj": 2}},
    "ranks": {"rank_pattern": {"k_proj": 2, "layers.0.self_attn.v_proj": 24}},
    "ranks, rslora": {"rank_pattern": {"o_proj": 32}, "alpha_pattern": {"up_proj": 5}, "use_rslora": True},
    "few modules": {"targets": ("v_proj", "down_proj")},
    "embeddings": {"targets": ("q_proj", "embed_tokens"), "use_rslora": True, "alpha_pattern": {"embed_tokens": 3}},
}
# Modules whose B is not as it was: one alpha serves all others.
SCALED = {"alphas": 3, "ranks, rslora": 4, "embeddings": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, untied: what differs is the adapter's doing, and the head can have one too."""
    folder = tmp_path_factory.mktemp("base") / "small"
    return make_llama(folder, hidden=64, intermediate=96, head_dim=16, tied=False, dtype="float32")


@pytest.fixture(scope="module")
def base_file(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base-gguf")
    return folder / export_model(ExportSource(base), "f32", folder, {"threads": 1}).facts["file"]


def exported(base: Path, adapter: Path, folder: Path, type_name: str = "f32", **options: Any) -> tuple[Path, Exported]:
    folder.mkdir(parents=True, exist_ok=True)
    done = export(
        ExportSource(base, adapter, name="small-tuned", base_ref="small"),
        type_name,
        folder,
        {"threads": 1, **options},
        silent,
    )
    return folder / done.facts["file"], done


def of_peft(base: Path, adapter: Path | None) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(model, adapter).eval() if adapter else model
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].numpy()


def of_llama_cpp(base_file: Path, lora: Path | None) -> Any:
    import llama_cpp

    path = str(lora) if lora else None
    exact = {"type_k": 0, "type_v": 0, "n_threads": 1}  # a float32 cache
    model = llama_cpp.Llama(str(base_file), lora_path=path, n_ctx=64, logits_all=True, verbose=False, **exact)
    model.eval(IDS)
    found = np.array(model.scores[: len(IDS)])
    model.close()
    return found


def error(base: Path, base_file: Path, adapter: Path, lora: Path) -> float:
    """How far llama.cpp is from peft, as a part of what the adapter changes."""
    want = of_peft(base, adapter)
    return float(np.abs(of_llama_cpp(base_file, lora) - want).max() / np.abs(want - of_peft(base, None)).max())


@pytest.mark.parametrize("kind", ADAPTERS)
def test_llama_cpp_computes_what_peft_computes(kind: str, base: Path, base_file: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, **ADAPTERS[kind])
    lora, done = exported(base, adapter, tmp_path / "out")
    assert error(base, base_file, adapter, lora) < 1e-4
    assert done.facts["scaled"] == SCALED.get(kind, 0)


@pytest.mark.parametrize(("type_name", "most"), [("f16", 2e-3), ("bf16", 2e-2), ("q8_0", 2e-2)])
def test_smaller_types(type_name: str, most: float, base: Path, base_file: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, r=32, use_rslora=True, rank_pattern={"q_proj": 8})
    lora, done = exported(base, adapter, tmp_path / "out", type_name)
    assert error(base, base_file, adapter, lora) < most
    if type_name == "q8_0":
        assert done.facts["tensors"] == {"f16": 2, "q8_0": 26}  # B of rank 8 is narrower than a block


def test_the_head_of_an_untied_model(base: Path, base_file: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, targets=("lm_head", "q_proj"))
    lora, _ = exported(base, adapter, tmp_path / "out")
    assert {tensor.name for tensor in gguf.GGUFReader(lora).tensors} >= {"output.weight.lora_a", "output.weight.lora_b"}
    assert error(base, base_file, adapter, lora) < 1e-4


def test_what_the_file_says(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, r=4, alpha=8, use_rslora=True)
    lora, done = exported(base, adapter, tmp_path / "out")
    assert lora.name == "small-tuned-lora-f32.gguf"
    fields = {name: field.contents() for name, field in gguf.GGUFReader(lora).fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == "llama"
    assert fields["adapter.lora.alpha"] == done.facts["alpha"] == 16  # 8 / sqrt(4) * 4: B stays as it is
    assert done.facts["modules"] == 14
    assert (tmp_path / "out" / "README.md").read_text().count("--lora small-tuned-lora-f32.gguf") == 2
    second, _ = exported(base, adapter, tmp_path / "again")
    assert lora.read_bytes() == second.read_bytes()


def test_with_its_base_beside_it(base: Path, tmp_path: Path) -> None:
    """The folder opens as it is; without the base it says what is lacking, and takes one by name."""
    adapter = make_adapter(tmp_path / "adapter", base)
    lora, done = exported(base, adapter, tmp_path / "out", with_base="f32")
    assert done.facts["base_file"] == "small-f32.gguf"
    assert done.facts["with_base"] == "f32"
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert "FROM ./small-f32.gguf\nADAPTER ./small-tuned-lora-f32.gguf\n" in modelfile
    with open_runtime(tmp_path / "out") as runtime:
        assert runtime.name == "gguf f32 + lora"
        assert np.abs(runtime.logits(IDS) - of_peft(base, adapter)).max() < 5e-3
    alone = Path(shutil.copy(lora, tmp_path / "alone.gguf"))
    with pytest.raises(ModelError, match="goes on a GGUF file of its base"):
        open_runtime(alone)
    with open_runtime(alone, base=tmp_path / "out" / "small-f32.gguf") as runtime:
        assert np.abs(runtime.logits(IDS) - of_peft(base, adapter)).max() < 5e-3
    with pytest.raises(ModelError, match="this is none"):
        open_runtime(alone, base=base)


def test_an_adapter_on_another_model_is_refused_by_llama_cpp(base: Path, tmp_path: Path) -> None:
    lora, _ = exported(base, make_adapter(tmp_path / "adapter", base), tmp_path / "out")
    other = make_llama(tmp_path / "other", hidden=32, intermediate=96, head_dim=16)
    (tmp_path / "gguf").mkdir()
    file = export_model(ExportSource(other), "f32", tmp_path / "gguf", {"threads": 1}).facts["file"]
    with pytest.raises(ModelError, match=r"llama\.cpp cannot put this adapter on"):
        open_runtime(lora, base=tmp_path / "gguf" / file)


# --- the base of an adapter that was trained on 4 bits --------------------------------------------------------------


def quantized(adapter: Path, **more: Any) -> Path:
    """The adapter as if it had been trained on an NF4 base."""
    from edgeft.weights.adapter import open_adapter

    how = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32"}
    table = {"quantization": {**how, "weights": sorted(open_adapter(adapter).loras)}, **more}
    (adapter / "training.json").write_text(json.dumps(table))
    return adapter


def test_the_base_as_it_was_quantized_in_training(base: Path, tmp_path: Path) -> None:
    from edgeft.weights import open_base

    adapter = quantized(make_adapter(tmp_path / "adapter", base))
    _, done = exported(base, adapter, tmp_path / "out", with_base="f32")
    assert done.facts["base_file"] == "small-as-trained-f32.gguf"
    assert done.facts["merge_base"] == "dequantized"
    tensors = {
        tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out" / "small-as-trained-f32.gguf").tensors
    }
    trained, pristine = open_base(base, adapter), open_base(base)
    name = "model.layers.0.mlp.up_proj.weight"
    assert np.array_equal(tensors["blk.0.ffn_up.weight"].data, trained[name].read().numpy())
    assert not torch.equal(trained[name].read(), pristine[name].read())
    assert torch.equal(trained["lm_head.weight"].read(), pristine["lm_head.weight"].read())


def test_the_card_tells_which_base(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    exported(base, adapter, tmp_path / "plain")
    shared = (tmp_path / "plain" / "README.md").read_text()
    assert "any GGUF file of the base" in shared
    assert "--type gguf-f16 --out base" in shared
    exported(base, quantized(adapter), tmp_path / "nf4")
    exact = (tmp_path / "nf4" / "README.md").read_text()
    assert "as it was quantized in training, and no other" in exact
    assert "--type lora-f16 --with-base f16 --out base" in exact


def test_another_template_needs_a_base_of_its_own(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter / "training.json").write_text(json.dumps({"chat_template": "{{ messages[0]['content'] }}"}))
    with pytest.raises(ModelError, match="another chat template") as caught:
        exported(base, adapter, tmp_path / "alone")
    assert "with_base" in str(caught.value)
    _, done = exported(base, adapter, tmp_path / "both", with_base="f16")
    file = gguf.GGUFReader(tmp_path / "both" / done.facts["base_file"])
    assert file.fields["tokenizer.chat_template"].contents() == "{{ messages[0]['content'] }}"
    (adapter / "training.json").write_text(json.dumps({"stop_ids": [317, 319]}))
    with pytest.raises(ModelError, match="other stop tokens"):
        exported(base, adapter, tmp_path / "stops")


# --- refused --------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "the adapter has DoRA, which a GGUF adapter cannot hold"),
    "whole modules": (
        {"modules_to_save": ["lm_head"]},
        "the adapter has weights saved whole (modules_to_save), which a GGUF adapter cannot hold",
    ),
    "biases": ({"bias": "all"}, "the adapter has trained biases, which a GGUF adapter cannot hold"),
    "lora biases": ({"lora_bias": True}, "the adapter has LoRA biases, which a GGUF adapter cannot hold"),
    "tokens": (
        {"trainable_token_indices": {"embed_tokens": [1, 2]}},
        "the adapter has trained single tokens, which a GGUF adapter cannot hold",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_adapters_that_a_gguf_adapter_cannot_hold(kind: str, base: Path, tmp_path: Path) -> None:
    settings, what = REFUSED[kind]
    adapter = make_adapter(tmp_path / "adapter", base, **settings)
    with pytest.raises(ModelError) as caught:
        exported(base, adapter, tmp_path / "out")
    assert str(caught.value) == f"{adapter}: {what}\nexport the merged file instead: gguf-f16 or another gguf type"
    assert not list((tmp_path / "out").iterdir())


def test_embeddings_of_positions_and_tied_ones_are_refused(tmp_path: Path) -> None:
    """llama.cpp adds to the tokens' embedding only, and would add to a tied head as well."""
    gpt2 = make_model(tmp_path / "gpt2", "gpt2", dtype="float32")
    positions = make_adapter(tmp_path / "positions", gpt2, targets=("c_attn", "wpe"))
    with pytest.raises(ModelError, match=r"changes the embedding 'transformer\.wpe\.weight'; of a GGUF adapter"):
        exported(gpt2, positions, tmp_path / "out")
    tied = make_llama(tmp_path / "tied", hidden=64, intermediate=96, head_dim=16, tied=True)
    adapter = make_adapter(tmp_path / "adapter", tied, targets=("q_proj", "embed_tokens"))
    with pytest.raises(ModelError, match="ties to its other end: folding would change both"):
        exported(tied, adapter, tmp_path / "out2")


def test_no_adapter_and_an_unknown_family_and_type(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no adapter to write"):
        export(ExportSource(base), "f16", tmp_path, {})
    with pytest.raises(InputError, match=r"unknown type of a GGUF adapter 'q4_k_m'\nknown: bf16, f16, f32, q8_0"):
        check(base, "q4_k_m")
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match="cannot write the architecture 'BertForMaskedLM' as GGUF\narchitectures: "):
        check(other, "f16")
    for type_name in TYPES:
        check(base, type_name)


def test_the_scale_of_nothing(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0}))
    with pytest.raises(ModelError, match="scale is 0"):
        exported(base, adapter, tmp_path / "out")


# --- llama.cpp's own converter --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_against_llama_cpps_converter(base: Path, tmp_path: Path) -> None:
    """A plain adapter: the same bytes. A rank-stabilised one: the converter's is wrong, ours is peft."""
    source = source_folder(tmp_path)
    convert(source, base, tmp_path / "base.gguf", type_name="f32", pre="qwen2")
    for kind, type_name in (("plain", "f32"), ("plain", "q8_0"), ("rslora", "f32"), ("alphas", "f32")):
        adapter = make_adapter(tmp_path / f"{kind}-{type_name}", base, r=32, **ADAPTERS[kind])
        theirs = convert_lora(source, base, adapter, tmp_path / f"{kind}-{type_name}.gguf", type_name=type_name)
        ours, _ = exported(base, adapter, tmp_path / f"{kind}-{type_name}.ours", type_name)
        if kind == "plain":
            assert tensors_of(ours) == tensors_of(theirs)
            assert metadata_of(ours)["adapter.lora.alpha"] == metadata_of(theirs)["adapter.lora.alpha"]
            assert set(metadata_of(theirs)) - set(metadata_of(ours)) <= THEIRS
        else:
            assert error(base, tmp_path / "base.gguf", adapter, ours) < 1e-4
            assert error(base, tmp_path / "base.gguf", adapter, theirs) > 0.1


# Guessed from the folder's name and peft's card: a path of this machine, as a link.
THEIRS = {"general.basename", "general.finetune", "general.version", "general.base_model.0.repo_url"}


def tensors_of(path: Path) -> dict[str, Any]:
    return {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def metadata_of(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields
    return {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}


def test_the_base_source_is_named_by_the_base(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    assert base_of(ExportSource(base, adapter, name="x", base_ref="builtin:sprout")).name == "sprout"
    assert base_of(ExportSource(base, adapter, name="x", base_ref="some/where/small")).name == "small"
