"""Names of another version of Transformers, found in a base's file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.weights import open_base, open_weights
from edgeft.weights.adapter import open_adapter
from edgeft.weights.renamed import SAME, renaming
from tests.models_made import make_adapter


def test_only_what_the_base_lacks_is_renamed() -> None:
    called = renaming(["language_model.model.layers.0.mlp.up_proj.weight", "language_model.lm_head.weight", "visual.x"])
    assert called("model.language_model.layers.3.self_attn.q_proj.weight") == (
        "language_model.model.layers.3.self_attn.q_proj.weight"
    )
    assert called("model.layers.3.self_attn.q_proj.bias") == "language_model.model.layers.3.self_attn.q_proj.bias"
    assert called("lm_head.weight") == "language_model.lm_head.weight"
    assert called("model.visual.merger.weight") == "visual.merger.weight"
    assert called("model.vision_tower.x") == "model.vision_tower.x"  # the base has none of either name
    assert called("transformer.h.0.attn.weight") == "transformer.h.0.attn.weight"


def test_two_names_side_by_side_are_left_apart() -> None:
    called = renaming(["model.layers.0.x", "model.language_model.layers.0.x"])
    assert called("language_model.model.layers.0.x") == "language_model.model.layers.0.x"


def test_no_beginning_is_in_two_rows() -> None:
    starts = [start for row in SAME for start in row]
    assert len(starts) == len(set(starts))


def test_the_renamings_are_those_of_transformers() -> None:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    steps = [*get_checkpoint_conversion_mapping("LlavaModel"), *get_checkpoint_conversion_mapping("llava")]
    for old in ("language_model.model.layers.0.x", "language_model.lm_head.weight", "vision_tower.x"):
        new = old
        for step in steps:
            new = re.sub(step.source_patterns[0], step.target_patterns[0], new)
        assert new != old
        assert renaming([old])(new) == old
        assert renaming([new])(old) == new


@pytest.mark.parametrize("merge_base", ["dequantized", "pristine"])
def test_every_part_of_an_adapter_is_renamed(merge_base: str, tiny_llama: Path, tmp_path: Path) -> None:
    """Low-rank changes, weights saved whole, biases, tokens, and the quantized names of training.json."""
    adapter = make_adapter(
        tmp_path / "adapter",
        tiny_llama,
        targets=("q_proj", "down_proj"),
        modules_to_save=["up_proj"],
        trainable_token_indices={"embed_tokens": [3, 5]},
    )
    quantized = sorted(name for name in open_adapter(adapter).loras)
    how = {"quant_type": "nf4", "double_quant": True, "dtype": "float32", "weights": quantized}
    (adapter / "training.json").write_text(json.dumps({"quantization": how}))
    older = tmp_path / "older"
    shutil.copytree(tiny_llama, older)
    tensors = load_file(older / "model.safetensors")
    named = {f"language_model.{name}": value for name, value in tensors.items()}
    save_file(named, older / "model.safetensors", {"format": "pt"})
    for opened in (open_weights, open_base):
        want = opened(tiny_llama, adapter, merge_base=merge_base)
        got = opened(older, adapter, merge_base=merge_base)
        assert list(got) == [f"language_model.{name}" for name in want]
        changed = 0
        for name, tensor in want.items():
            assert torch.equal(got[f"language_model.{name}"].read(), tensor.read())
            changed += not torch.equal(tensor.read(), tensors[name])
        assert changed >= 3 or (opened is open_base and merge_base == "pristine")
