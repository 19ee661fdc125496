"""A merge undone: within rounding for every kind of adapter; what was not merged so is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource, hf
from edgeft.weights.unmerge import unmerged
from tests.models_made import make_adapter, make_llama
from tests.weights.test_merged import with_training

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16, "tied": False}


def merged(base: Path, adapter: Path, folder: Path, merge_base: str = "dequantized") -> Path:
    folder.mkdir()
    hf.export(ExportSource(base, adapter, merge_base=merge_base, name="m", base_ref="m"), folder, {"threads": 1})
    return folder


@pytest.mark.parametrize(("dtype", "largest"), [("bfloat16", 0.5), ("float16", 0.51), ("float32", 1.0)])
@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_the_base_is_restored(tmp_path: Path, dtype: str, largest: float, options: dict[str, Any]) -> None:
    base = make_llama(tmp_path / "base", dtype=dtype, **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base, **options)
    found = unmerged(base, adapter, merged(base, adapter, tmp_path / "merged"))
    assert found.within_rounding
    assert (found.changed, found.same) == (14, len(load_file(base / "model.safetensors")) - 14)
    assert 0.3 < found.largest <= (3 if options and dtype == "float32" else largest + 0.01)
    assert found.worst is not None


def test_which_base_it_was_folded_into(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **SMALL)
    adapter = with_training(make_adapter(tmp_path / "plain", base), tmp_path / "adapter")
    folder = merged(base, adapter, tmp_path / "merged")
    assert unmerged(base, adapter, folder).within_rounding
    found = unmerged(base, adapter, folder, merge_base="pristine")
    assert not found.within_rounding
    assert found.largest > 10


def test_another_adapter_and_touched_weights_are_told(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base)
    folder = merged(base, adapter, tmp_path / "merged")
    other = make_adapter(tmp_path / "other", base, seed=8)
    assert unmerged(base, other, folder).largest > 10
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    found = unmerged(base, adapter, folder)
    assert found.unequal == ("model.norm.weight",)
    assert not found.within_rounding


def test_a_merge_rounded_twice_is_seen(tmp_path: Path) -> None:
    """The change rounded to bfloat16 before it is added: off by more than the half unit of one rounding."""
    base = make_llama(tmp_path / "base", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base)
    folder = merged(base, adapter, tmp_path / "merged")
    from edgeft.weights.merged import open_parts

    parts = open_parts(base, adapter)
    tensors = load_file(folder / "model.safetensors")
    for name in parts.adapter.loras:
        folded = parts.folded(name)
        pristine = folded.base.read()
        change = (folded.lora.b.read() @ folded.lora.a.read() * folded.lora.scale).bfloat16()
        tensors[name] = (pristine + change).to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert unmerged(base, adapter, folder).largest > 0.6


def test_what_does_not_fit(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base, targets=("q_proj",))
    with pytest.raises(ModelError, match=r"has no weight 'model\.layers\.1"):
        unmerged(base, adapter, make_llama(tmp_path / "shallow", layers=1, **SMALL))
    with pytest.raises(ModelError, match="F32"):
        unmerged(base, adapter, make_llama(tmp_path / "float", dtype="float32", **SMALL))
