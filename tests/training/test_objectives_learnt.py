"""Each objective learns, and a killed run of it ends as an undisturbed one; heads and teachers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.errors import ModelError
from edgeft.models.open import open_tuned
from edgeft.training.objectives import ROWS
from tests.models_made import make_llama
from tests.training.made import contents, run_training
from tests.training.test_resume import Killed, stop_at

LEARNT: dict[str, dict[str, Any]] = {
    "dpo": {},
    "kto": {"num_epochs": 3},
    "orpo": {},
    "reward": {},
    "classification": {"num_epochs": 3},
}


@pytest.mark.parametrize(
    "objective", [pytest.param(name, marks=() if name == "dpo" else pytest.mark.slow) for name in sorted(LEARNT)]
)
def test_it_learns_and_a_killed_run_ends_the_same(
    objective: str, tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    settings = {
        "objective": objective, "learning_rate": 5e-3, "max_steps": 8, "lora_dropout": 0.05, "save_steps": 3,
        "logging_steps": 1, **LEARNT[objective],
    }  # fmt: skip
    data = datasets[ROWS[objective]]
    straight = run_training(tmp_path / "a", tiny_llama, data, **settings)
    rows = [json.loads(line) for line in (tmp_path / "a" / "heldout.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert straight.facts["accuracy_after"] > straight.facts["accuracy_before"] or straight.facts["accuracy_after"] == 1
    with pytest.raises(Killed):
        run_training(tmp_path / "b", tiny_llama, data, listen=stop_at(5), **settings)
    resumed = run_training(tmp_path / "b", tiny_llama, data, **settings)
    assert resumed.measurements["resumed_from_step"] == 3
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
def test_grpo_learns_and_a_killed_run_ends_the_same(
    tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    settings = {
        "objective": "grpo", "learning_rate": 2e-2, "max_steps": 10, "save_steps": 4, "micro_batch_size": 2,
        "num_generations": 6, "max_completion_length": 8, "logging_steps": 1,
        "rewards": [{"type": "regex", "weight": 1.0, "pattern": "light"}, {"type": "exact_match", "weight": 0.5}],
    }  # fmt: skip
    data = datasets["prompts"]
    straight = run_training(tmp_path / "a", tiny_llama, data, **settings)
    curve = [json.loads(line) for line in (tmp_path / "a" / "curve.jsonl").read_text().splitlines()]
    assert {"reward", "answer_tokens"} <= set(curve[0])
    with pytest.raises(Killed):
        run_training(tmp_path / "b", tiny_llama, data, listen=stop_at(6), **settings)
    assert run_training(tmp_path / "b", tiny_llama, data, **settings).measurements["resumed_from_step"] == 4
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert straight.facts["eval_loss"] == pytest.approx(-straight.facts["reward_after"])


def distilled(tmp_path: Path, base: Path, dataset: Path, **settings: Any) -> Callable[..., Any]:
    """A function that trains a student of a random teacher, with other settings."""
    teacher = make_llama(tmp_path / "teacher", hidden=320, layers=3, seed=5)
    asked = {"objective": "distill", "teacher": "teacher", "learning_rate": 5e-3, **settings}

    def train(name: str, **more: Any) -> Any:
        return run_training(tmp_path / name, base, dataset, job={"files": {"teacher": teacher}}, **{**asked, **more})

    return train


def test_a_student_comes_nearer_to_its_teacher(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    train = distilled(tmp_path, tiny_llama, tiny_dataset, max_steps=6, eval_steps=1)
    last = train("a").facts["eval_loss"]
    first = json.loads((tmp_path / "a" / "curve.jsonl").read_text().splitlines()[0])["eval_loss"]
    assert last < 0.9 * first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"), [("distill_kl", "reverse"), ("distill_temperature", 3.0), ("distill_alpha", 0.5)]
)
def test_each_setting_of_distillation_counts(
    key: str, value: Any, tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    train = distilled(tmp_path, tiny_llama, tiny_dataset, max_steps=3)
    assert train("a").facts["eval_loss"] != train("b", **{key: value}).facts["eval_loss"]


def test_a_teacher_of_another_vocabulary_is_refused(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    stranger = make_llama(tmp_path / "stranger", vocab_size=300)
    with pytest.raises(ModelError, match="the teacher has another vocabulary"):
        run_training(
            tmp_path / "a", tiny_llama, tiny_dataset, job={"files": {"teacher": stranger}}, objective="distill",
            teacher="teacher", max_steps=1,
        )  # fmt: skip


@pytest.mark.parametrize("objective", ["classification", "reward"])
def test_a_head_is_opened_again(objective: str, tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    run_training(
        tmp_path / "a", tiny_llama, datasets[ROWS[objective]], objective=objective, adapter="lora", max_steps=2
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    tuned = open_tuned(tiny_llama, tmp_path / "a", device="cpu")
    with torch.no_grad():
        ours = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    labels = json.loads((tmp_path / "a" / "training.json").read_text())["labels"]
    plain = AutoModelForSequenceClassification.from_pretrained(
        tiny_llama, dtype=torch.float32, num_labels=len(labels), pad_token_id=317
    )
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(plain, tmp_path / "a")(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-5)
