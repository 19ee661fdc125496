"""The text part of checkpoints of text and images: in llama.cpp's runtime it answers as Transformers' whole model does
to a text; its tensors and metadata are those of llama.cpp's converter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft import artifact
from edgeft.cli.main import main
from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import check
from edgeft.exporters.gguf.export import export as export_model
from edgeft.exporters.gguf.families import model_config
from edgeft.exporters.gguf.lora import export as export_lora
from tests.exporters.gguf.converter import convert_many, source_folder
from tests.exporters.gguf.families_made import COMMON, MODELS
from tests.exporters.gguf.test_converter import OTHERWISE, OURS, THEIRS, contents
from tests.exporters.gguf.test_families import IDS, gguf_of, llama_cpp_says
from tests.models_made import SPECIALS, make_adapter, make_tokenizer

VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
# name -> outer configuration class, model class, the text part's row in MODELS, more of the outer config
NESTED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration", "gemma3", {"mm_tokens_per_image": 4}),
    "mistral3": ("Mistral3Config", "Mistral3ForConditionalGeneration", "mistral", {"tie_word_embeddings": False}),
    "llava": ("LlavaConfig", "LlavaForConditionalGeneration", "llama", {"tie_word_embeddings": False}),
    "qwen3_5": ("Qwen3_5Config", "Qwen3_5ForConditionalGeneration", "qwen3_5", {"tie_word_embeddings": False}),
}
TYPES_OF_TEXT = {"gemma3": "gemma3_text", "qwen3_5": "qwen3_5_text"}
QWEN_VISION = {"hidden_size": 32, "intermediate_size": 64, "depth": 1, "num_heads": 2, "out_hidden_size": 256}


def make_nested(folder: Path, name: str, *, older: bool = False) -> Path:
    """A random checkpoint; `older`: tensors named as published checkpoints of the time before."""
    import transformers
    from safetensors.torch import load_file, save_file

    outer, model_class, row, more = NESTED[name]
    tokens = make_tokenizer(folder)
    ends = {"bos_token_id": None, "eos_token_id": tokens - 1, "pad_token_id": tokens - len(SPECIALS)}
    text = {**COMMON, **MODELS[row].settings, **ends, "vocab_size": tokens}
    text["model_type"] = TYPES_OF_TEXT.get(row, row)
    vision = QWEN_VISION if name == "qwen3_5" else VISION | ({} if name == "gemma3" else {"model_type": "pixtral"})
    config = getattr(transformers, outer)(text_config=text, vision_config=vision, **more, **ends)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = getattr(transformers, model_class)(config)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn(parameter.shape)
    model.to(torch.bfloat16).save_pretrained(folder)
    if older:
        path = folder / "model.safetensors"
        tensors = {
            key.replace("model.language_model.", "language_model.model.").replace("lm_head.", "language_model.lm_head.")
            if not key.startswith("language_model.")
            else key: value
            for key, value in load_file(path).items()
        }
        save_file(tensors, path, {"format": "pt"})
    return folder


def transformers_says(base: Path, name: str, new: int) -> tuple[Any, list[int]]:
    import transformers

    model_class = getattr(transformers, NESTED[name][1])
    model = model_class.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].numpy()
    found = model.generate(ids, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
    return logits, found[0, len(IDS) :].tolist()


@pytest.mark.parametrize("name", NESTED)
def test_llama_cpp_answers_as_transformers_does(name: str, tmp_path: Path) -> None:
    base = make_nested(tmp_path / "base", name)
    want, text = transformers_says(base, name, 8)
    got, found = llama_cpp_says(gguf_of(base, "f32", tmp_path / "out"), 8)
    assert np.abs(got - want).max() < (2e-3 if name == "gemma3" else 1e-5) * np.abs(want).max()
    assert found == text


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_older_names_make_the_same_file(name: str, tmp_path: Path) -> None:
    new = gguf_of(make_nested(tmp_path / "new", name), "q8_0", tmp_path / "of-new")
    old = gguf_of(make_nested(tmp_path / "old", name, older=True), "q8_0", tmp_path / "of-old")
    assert new.read_bytes() == old.read_bytes()


def renamed(adapter: Path, to: Path, old: str, new: str) -> Path:
    """The same adapter, its weights named as another version of Transformers names them."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, to)
    path = to / "adapter_model.safetensors"
    tensors = load_file(path)
    assert all(old in key for key in tensors)
    save_file({key.replace(old, new): value for key, value in tensors.items()}, path, {"format": "pt"})
    return to


def test_an_adapter_is_found_under_newer_and_older_names(tmp_path: Path) -> None:
    """Trained with the names of Transformers 5 on a base that has the older ones, and the other way round."""
    newer, older = make_nested(tmp_path / "new", "gemma3"), make_nested(tmp_path / "old", "gemma3", older=True)
    trained = make_adapter(tmp_path / "trained", older, targets=r".*language_model.*\.(q_proj|down_proj)")
    names = ("model.model.language_model.", "model.language_model.model.")
    named = renamed(trained, tmp_path / "named", *names)

    def made(base: Path, adapter: Path, write: Any, type_name: str) -> Any:
        folder = tmp_path / f"{base.name}-{adapter.name}-{type_name}"
        folder.mkdir()
        source = ExportSource(base, adapter, merge_base="pristine", name="x", base_ref="x")
        done = write(source, type_name, folder, {"threads": 1})
        metadata, tensors = contents(folder / str(done.facts["file"]))
        return {key: value for key, value in metadata.items() if key != "edgeft.adapter.digest"}, tensors

    plain = contents(gguf_of(newer, "q8_0", tmp_path / "plain"))[1]
    for write, type_name in ((export_model, "q8_0"), (export_lora, "f32")):
        files = [made(base, adapter, write, type_name) for base in (newer, older) for adapter in (trained, named)]
        assert all(other == files[0] for other in files[1:])
        assert files[0][1] != plain


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = make_nested(tmp_path / "base", "gemma3")
    assert main(["export", "--base", str(base), "--type", "gguf-q8_0", "--out", str(tmp_path / "out")]) == 0
    count = artifact.load(tmp_path / "out").facts["left_out"]
    assert count > 5
    assert f"the file holds the text model; {count} tensors of other parts (images) are left out" in (
        capsys.readouterr().err
    )


def test_a_published_config_that_leaves_defaults_out(tmp_path: Path) -> None:
    """Gemma 3 4B's: sizes that the configuration class fills in are not in the file."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": text,
        "vision_config": VISION,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = model_config(tmp_path)
    assert found["architectures"] == ["Gemma3ForCausalLM"]
    assert found["vocab_size"] == 262208
    assert found["eos_token_id"] == [1, 106]
    from edgeft.exporters.gguf.families import family_of

    family_of(found).check(found)
    put: dict[str, Any] = {}
    family_of(found).metadata(found, lambda key, value, kind: put.update({key: value}))
    assert put["gemma3.attention.head_count"] == 8
    assert put["gemma3.rope.scaling.factor"] == 8.0


def test_a_text_part_of_its_own_kind_is_refused(tmp_path: Path) -> None:
    """Qwen2.5-VL's text model counts positions of images."""
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "text_config": {"model_type": "qwen2_5_vl_text"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="Qwen2_5_VLForConditionalGeneration"):
        check(tmp_path, "q8_0")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3", "qwen3_5"])
def test_equals_llama_cpps_converter(name: str, tmp_path: Path) -> None:
    base = make_nested(tmp_path / "base", name)
    convert_many(source_folder(tmp_path / "llama.cpp"), [(base, tmp_path / "theirs.gguf", "bf16")])
    ours, our_tensors = contents(gguf_of(base, "bf16", tmp_path / "ours"))
    theirs, their_tensors = contents(tmp_path / "theirs.gguf")
    assert our_tensors == their_tensors
    assert set(ours) - set(theirs) <= set(OURS)
    assert set(theirs) - set(ours) <= set(THEIRS)
    different = {key: (ours[key], theirs[key]) for key in set(ours) & set(theirs) if ours[key] != theirs[key]}
    told = {"tokenizer.ggml.pre"} if name == "qwen3_5" else set()  # `convert_many` tells the converter qwen2's
    assert set(different) <= {*OTHERWISE, *told}, different
