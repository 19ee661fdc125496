"""An adapter alone as GGUF, in every family: on its base, llama.cpp computes what it computes of the merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export as export_model
from edgeft.exporters.gguf.lora import export
from tests.exporters.gguf.families_made import MODELS, make_model
from tests.models_made import make_adapter

IDS = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200]
# Variants differ in config and rope, not in how an adapter goes on.
NAMES = [name for name in MODELS if " " not in name]
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MIXTURES = ("qwen3moe", "qwen2moe", "granitemoe", "mixtral")
TARGETS: dict[str, tuple[str, ...] | str] = dict.fromkeys(MIXTURES, ATTENTION)  # not the experts


def logits(file: Path, lora: Path | None = None) -> Any:
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32, "n_threads": 1}
    path = str(lora) if lora else None
    model = llama_cpp.Llama(str(file), lora_path=path, n_ctx=64, logits_all=True, verbose=False, **exact)
    model.eval(IDS)
    found = np.array(model.scores[: len(IDS)])
    model.close()
    return found


def written(source: ExportSource, folder: Path, **options: Any) -> Path:
    folder.mkdir()
    return folder / str(export_model(source, "f32", folder, {"threads": 1, **options}).facts["file"])


@pytest.mark.parametrize("name", NAMES)
def test_on_its_base_it_is_the_merged_model(name: str, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", name, dtype="float32")
    adapter = make_adapter(tmp_path / "adapter", base, targets=TARGETS.get(name, "all-linear"), use_rslora=True, r=4)
    source = ExportSource(base, adapter, merge_base="pristine", name="x", base_ref="x")
    (tmp_path / "lora").mkdir()
    done = export(source, "f32", tmp_path / "lora", {"threads": 1})
    alone = written(ExportSource(base, name="base"), tmp_path / "alone")
    merged = logits(written(source, tmp_path / "merged"))
    change = np.abs(merged - logits(alone)).max()
    together = logits(alone, tmp_path / "lora" / str(done.facts["file"]))
    assert np.abs(together - merged).max() < 0.02 * change
    assert change > 0.1
