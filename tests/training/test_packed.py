"""Packing without contamination, on each attention path that is used; and what is done where it cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.data.store import Tokens
from edgeft.training.batches import Batches, make_plan
from edgeft.training.forms.language import Language
from edgeft.training.objectives import sft
from edgeft.training.packed import packs_exactly
from tests.training.made import dataset_artifact, make_dataset


@pytest.fixture(scope="module")
def rows() -> Tokens:
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 300, int(length), dtype=np.int32) for length in generator.integers(4, 40, 24)]
    labels = [np.where(np.arange(len(row)) < len(row) // 3, -100, row) for row in ids]
    return Tokens([str(number) for number in range(24)], ids, labels)


def loss_of(model: Any, rows: Tokens, pack_into: int | None) -> float:
    plan = make_plan(
        rows.lengths, micro_batch_size=2, accumulation=1, epochs=1, max_steps=None, seed=0, pack_into=pack_into
    )
    collator = Batches(Language(rows, 0), plan.batches)
    assert (max(len(sequence) for batch in plan.batches for sequence in batch) > 2) == (pack_into is not None)
    with torch.no_grad():
        return sum(float(sft.loss_sum(model, collator[index][0])) for index in range(len(collator)))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_is_unpacked_loss(tiny_llama: Path, rows: Tokens, attention: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32, attn_implementation=attention)
    assert model.config._attn_implementation == attention
    assert packs_exactly(model)
    assert loss_of(model, rows, 128) == pytest.approx(loss_of(model, rows, None), rel=1e-5)


def recurrent() -> Any:
    """A model whose state runs on from one row into the next: it takes no notice of position ids."""
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=320, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.5)
    return MambaForCausalLM(config).float().train()


def test_a_model_that_lets_rows_see_each_other_is_found_out() -> None:
    model = recurrent()
    assert not packs_exactly(model)
    assert model.training, "it is left as it was"


def test_batches_under_a_token_budget() -> None:
    lengths = [int(length) for length in np.random.default_rng(1).integers(3, 64, 200)]
    plan = make_plan(
        lengths, micro_batch_size=4, accumulation=1, epochs=2, max_steps=None, seed=0, pack_into=None, token_budget=256
    )
    half = plan.epoch_ends[0]
    assert plan.epoch_ends == (half, 2 * half) == (half, len(plan.batches))
    for start in (0, half):
        epoch = plan.batches[start : start + half]
        assert sorted(index for batch in epoch for (index,) in batch) == list(range(200))
        assert max(len(batch) * max(lengths[index] for (index,) in batch) for batch in epoch) <= 256
    padded = sum(len(batch) * max(lengths[index] for (index,) in batch) for batch in plan.batches[:half])
    assert padded < 1.15 * sum(lengths), "rows of like length stand together"


def test_where_packing_is_not_exact_it_is_not_done_and_said(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeft.pipeline.stage import Inputs, Work
    from edgeft.stages import train as stage
    from edgeft.training import opened

    monkeypatch.setattr(opened, "packs_exactly", lambda model: False)
    dataset = make_dataset(tmp_path / "made", tiny_llama, sample_packing=True, sequence_len=256)
    found = dataset_artifact(dataset)
    told: list[str] = []
    (tmp_path / "adapter").mkdir()
    (tmp_path / "scratch").mkdir()
    params = stage.Params(max_steps=1, micro_batch_size=2, lora_r=2, threads=1)
    work = Work(tmp_path / "adapter", tmp_path / "scratch", warn=told.append)
    stage.run(params, Inputs({"data": found}, {"base": tiny_llama}), work)
    assert any("so they are not packed: batches of rows of like length, up to 512 tokens each" in text for text in told)
