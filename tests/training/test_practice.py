"""What keeps a run honest: out-of-memory, spikes, overfitting, the best weights, samples, budgets of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.errors import EdgeftError, MissingError
from edgeft.training import trainer as trainer_module
from edgeft.training.arguments import Settings, check_services, scheduler_settings
from edgeft.training.batches import make_plan
from edgeft.training.watch import Schedule, Watch, is_spike, overfitting
from tests.training.made import make_dataset, run_training


def test_out_of_memory_goes_on_with_half_the_rows(
    tiny_llama: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds two rows at most: found out in step 4, gone on from the checkpoint of step 3."""
    settings: dict[str, Any] = {"max_steps": 6, "micro_batch_size": 8, "save_steps": 3, "logging_steps": 1}
    straight = run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    made = trainer_module.make_trainer
    sizes: list[int] = []

    def scarce(task: Any, arguments: Any) -> Any:
        found = made(task, arguments)
        compute = found.compute_loss

        def loss(model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            sizes.append(len(inputs["input_ids"]))
            if found.state.global_step >= 3 and sizes[-1] > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return compute(model, inputs, *rest, **more)

        found.compute_loss = loss
        return found

    monkeypatch.setattr(trainer_module, "make_trainer", scarce)
    said: list[str] = []
    result = run_training(tmp_path / "b", tiny_llama, tiny_dataset, job={"warn": said.append}, **settings)
    assert result.measurements["rows_at_a_time"] == 2
    assert result.measurements["resumed_from_step"] == 3
    assert [text.partition(":")[2] for text in said] == [
        " going on with 4 rows at a time and 2 times the accumulation; the effective batch stays the same",
        " going on with 2 rows at a time and 4 times the accumulation; the effective batch stays the same",
    ]
    assert max(sizes[-12:]) == 2
    assert result.facts["loss"] == pytest.approx(straight.facts["loss"], rel=1e-4)
    assert result.facts["eval_loss"] == pytest.approx(straight.facts["eval_loss"], rel=1e-4)


def test_one_row_that_does_not_fit_is_an_error(
    tiny_llama: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(task: Any, arguments: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer_module, "make_trainer", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run_training(tmp_path / "a", tiny_llama, tiny_dataset, micro_batch_size=2)


def test_spikes() -> None:
    steps = [{"step": i, "loss": 1.0} for i in range(21)]
    assert is_spike([*steps, {"step": 21, "loss": 11.0}], 11.0, 10.0)
    assert not is_spike([*steps, {"step": 21, "loss": 9.0}], 9.0, 10.0)
    assert not is_spike([*steps, {"step": 21, "loss": 11.0}], 11.0, None)
    assert not is_spike(steps[:10], 50.0, 10.0)  # too early to tell
    small = [{"step": i, "loss": 0.001} for i in range(22)]
    assert not is_spike(small, 0.5, 10.0)
    watch = Watch(Schedule(steps=99, evaluate_at=frozenset(), spike=10.0), saved_step=15)
    with pytest.raises(EdgeftError, match=r"the loss jumped to 11.0000 in step 21; .* is that of step 15"):
        watch.step_done(21, 11.0, [*steps, {"step": 21, "loss": 11.0}])


def test_overfitting_is_told() -> None:
    history: list[dict[str, Any]] = []
    for step in range(1, 13):
        history.append({"step": step, "loss": 2.0 / step})
        if step % 4 == 0:
            history.append({"step": step, "eval_loss": {4: 1.0, 8: 1.1, 12: 1.3}[step]})
    told = overfitting(history)
    assert told is not None
    assert told.startswith("overfitting: the validation loss rose from 1.0000 (step 4) to 1.3000 (step 12)")
    assert overfitting(history[:5]) is None
    level = [{**entry, "eval_loss": 1.0} if "eval_loss" in entry else entry for entry in history]
    assert overfitting(level) is None


def test_sample_answers_and_the_board(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "eval_steps": 2, "sample_answers": 2}
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    samples = [json.loads(line) for line in (tmp_path / "a" / "samples.jsonl").read_text().splitlines()]
    assert [one["step"] for one in samples] == [2, 2, 4, 4]
    assert set(samples[0]) == {"step", "id", "prompt", "answer"}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    board.Reload()
    assert {"loss", "eval_loss", "learning_rate"} <= set(board.Tags()["scalars"])
    assert [point.step for point in board.Scalars("loss")] == [1, 2, 3, 4]


def test_steps_of_a_budget_of_tokens() -> None:
    lengths = [10, 90, 40, 60, 5, 95, 20, 80] * 10
    made = make_plan(lengths, micro_batch_size=4, accumulation=8, epochs=2, max_steps=None, seed=1, tokens_per_step=200)
    sizes = [sum(lengths[i] for (i,) in batch) for batch in made.batches]
    assert made.steps == len(made.batches)
    assert all(200 <= size < 300 for size in sizes if size >= 200)
    assert sum(size < 200 for size in sizes) <= 2  # the last of each epoch
    assert sum(sizes) == 2 * sum(lengths)


def test_retention(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    settings = {"save_steps": 1, "save_total_limit": 3, "max_steps": 5}
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, scratch=scratch, **settings)
    assert sorted(path.name for path in scratch.glob("checkpoint-*")) == [
        "checkpoint-3",
        "checkpoint-4",
        "checkpoint-5",
    ]


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="report_to: wandb needs the package wandb"):
        check_services(Settings(report_to=["wandb"]), "cpu")
    with pytest.raises(MissingError, match="use_liger needs the package liger-kernel"):
        check_services(Settings(use_liger=True), "cuda")


def test_schedules_get_their_settings() -> None:
    assert scheduler_settings(Settings(lr_scheduler="cosine_with_min_lr", min_lr_ratio=0.2), 50) == {"min_lr_rate": 0.2}
    told = scheduler_settings(Settings(lr_scheduler="warmup_stable_decay"), 50)
    assert told == {"num_decay_steps": 5, "min_lr_ratio": 0.1}


def test_the_best_weights_are_kept(tiny_llama: Path, tmp_path: Path) -> None:
    """Few rows, many passes, a high rate: the validation loss falls and rises again. The adapter that is written has
    the lowest loss of them all, taken anew by plain peft; without keep_best it has the last."""
    dataset = make_dataset(tmp_path / "few" / "made", tiny_llama, count=14)
    settings: dict[str, Any] = {"adapter": "lora", "max_steps": 16, "eval_steps": 2, "learning_rate": 2e-2}
    found = {}
    for keeps in (False, True):
        folder = tmp_path / f"keeps-{keeps}"
        facts = run_training(folder, tiny_llama, dataset, lr_scheduler="constant", keep_best=keeps, **settings).facts
        found[keeps] = facts, _held_out_loss(tiny_llama, folder, dataset)
    facts = found[True][0]
    assert facts["eval_loss"] > 1.02 * facts["best_eval_loss"]  # it rose: there is something to keep
    assert found[False][0]["eval_loss"] == facts["eval_loss"]
    assert found[True][1] == pytest.approx(facts["best_eval_loss"], rel=1e-4)
    assert found[False][1] == pytest.approx(facts["eval_loss"], rel=1e-4)


def _held_out_loss(base: Path, adapter: Path, dataset: Path) -> float:
    """Nats per trained token of the validation rows, one at a time, by transformers and peft."""
    import pyarrow.parquet as pq
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from edgeft.training.forms import read

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    path = dataset / "validation.parquet"
    rows, total, count = read("language", path, 0), 0.0, 0
    for index in range(pq.read_metadata(path).num_rows):
        batch = rows.batch([(index,)])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits[0].float()
        total += float(torch.nn.functional.cross_entropy(logits, batch["targets"][0], reduction="sum"))
        count += int((batch["targets"] != -100).sum())
    return total / count
