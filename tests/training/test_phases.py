"""Phases: the adapter carried on, or folded in and a new one trained; what is written fits the original base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.models.open import open_tuned
from edgeft.recipe import load
from edgeft.stages.targets import targets_of
from tests.training.made import contents, run_training
from tests.training.rows_made import make_rows
from tests.training.test_adapters import logits
from tests.training.test_resume import Killed, stop_at

RECIPE = """base_model: ./base
data: {datasets: [{path: a.jsonl}], val_set_size: 0.1, test_set_size: 0.1}
train:
  - {name: tone, lora_r: 8}
  - name: taste
    objective: dpo
    lora_r: 8
    data: {datasets: [{path: pairs.jsonl}]}
merge: true
export: [gguf-f16]
"""


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
@pytest.mark.parametrize("previous", ["carry", "merge"])
def test_a_phase_starts_where_the_one_before_ended(
    adapter: str, previous: str, tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    shape = {"adapter": adapter, "lora_r": 4}
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, max_steps=4, learning_rate=5e-3, **shape)
    first = logits(open_tuned(tiny_llama, tmp_path / "a", device="cpu"))
    later: dict[str, Any] = {**shape, "previous": previous, "job": {"previous": tmp_path / "a"}}
    run_training(tmp_path / "still", tiny_llama, tiny_dataset, **later, learning_rate=1e-12)
    assert torch.allclose(logits(open_tuned(tiny_llama, tmp_path / "still", device="cpu")), first, atol=1e-4)
    pairs = make_rows(tmp_path / "pairs", "preference", tiny_llama)
    later |= {"objective": "dpo", "save_steps": 2, "max_steps": 5, "learning_rate": 2e-3}
    straight = run_training(tmp_path / "b", tiny_llama, pairs, **later)
    assert float((logits(open_tuned(tiny_llama, tmp_path / "b", device="cpu")) - first).abs().max()) > 1e-2
    assert straight.facts["loss"] < 0.6932
    with pytest.raises(Killed):
        run_training(tmp_path / "c", tiny_llama, pairs, listen=stop_at(4), **later)
    assert run_training(tmp_path / "c", tiny_llama, pairs, **later).measurements["resumed_from_step"] == 2
    assert contents(tmp_path / "b") == contents(tmp_path / "c")


def test_the_targets_of_phases(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    targets = {target.name: target for target in targets_of(load(tmp_path / "recipe.yaml"))}
    assert [name for name in targets if name.startswith(("data", "train"))] == [
        "data", "data.taste", "train.tone", "train.taste",
    ]  # fmt: skip
    assert targets["train.tone"].inputs == {"data": "data"}
    assert targets["train.taste"].inputs == {"data": "data.taste", "adapter": "train.tone"}
    assert targets["data.taste"].sources["datasets.0"].ref == "pairs.jsonl"
    for name in ("eval.tuned", "merge", "export.gguf-f16", "verify.gguf-f16"):
        assert targets[name].inputs["adapter"] == "train.taste", name
    assert targets["verify.gguf-f16"].inputs["data"] == "data"
    assert targets["train.taste"].params.objective == "dpo"  # type: ignore[attr-defined]
    assert targets["train.taste"].params.previous == "carry"  # type: ignore[attr-defined]
