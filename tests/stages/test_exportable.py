"""Exports that a base cannot be turned into are refused by `edgeft check`, at their place in the recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgeft.recipe import load
from edgeft.stages.exportable import refusals


def write(folder: Path, base: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"base_model: {base}\ndata: {{datasets: [{{path: a}}]}}\nexport: [gguf-q8_0, onnx-int4]\n")
    return path


def test_a_base_that_both_formats_take(tiny_llama: Path, tmp_path: Path) -> None:
    assert refusals(load(write(tmp_path, str(tiny_llama)))) == []


def test_a_base_that_neither_takes(tiny_llama: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_llama, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"architectures": ["MambaForCausalLM"]}))
    found = refusals(load(write(tmp_path, "./base")))
    assert [str(error.where).rpartition("recipe.yaml:")[2] for error in found] == ["3:10", "3:21"]
    assert found[0].what.startswith("gguf-q8_0 cannot be made of ./base: ")
    assert "MambaForCausalLM" in found[1].what


def test_a_base_that_is_not_here_is_not_asked(tmp_path: Path) -> None:
    assert refusals(load(write(tmp_path, "./nowhere"))) == []
    assert refusals(load(write(tmp_path, "nobody/nothing"))) == []
