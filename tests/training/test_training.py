"""That training does what the recipe says: the loss is transformers' own, batches and packing change nothing but speed,
every setting reaches its use, and the files are those of the contract."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.data.store import Tokens, read_tokens
from edgeft.errors import EdgeftError, InputError, MissingError, ModelError
from edgeft.models.open import open_base, open_tuned
from edgeft.pipeline.stage import Inputs, Work
from edgeft.progress import Progress
from edgeft.stages import train as stage
from edgeft.training.arguments import Settings, optimizer_name, training_arguments, warmup_steps
from edgeft.training.batches import Batches
from edgeft.training.forms.language import Language
from edgeft.training.objectives import likelihood, sft
from edgeft.training.watch import Schedule, Watch, curve, is_patience_over
from tests.training.made import contents, dataset_artifact, make_dataset, plan, run_training


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    opened = open_base(tiny_llama, device="cpu")
    likelihood.prepare(opened)
    return opened


def expected_loss(model: Any, tokens: Tokens, rows: range) -> float:
    """Row by row with transformers' own loss: no batch, no padding, no cut."""
    total = 0.0
    for i in rows:
        ids = torch.tensor(tokens.ids[i].astype(np.int64))[None]
        labels = torch.tensor(tokens.labels[i].astype(np.int64))[None]
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * int((labels[:, 1:] != -100).sum())
    return total


def summed(model: Any, collator: Batches, most: int = 1 << 26) -> float:
    with torch.no_grad():
        return sum(float(sft.loss_sum(model, collator[i][0], most_logits=most)) for i in range(len(collator)))


@pytest.mark.parametrize("most", [1 << 26, 0])
def test_the_loss_is_transformers_own(model: Any, tiny_dataset: Path, most: int) -> None:
    """In padded batches, cut behind the last trained token, through the model's head and through TRL's fused one."""
    tokens = read_tokens(tiny_dataset / "train.parquet")
    collator = Batches(Language(tokens, 0), plan(tokens.lengths, epochs=1).batches)
    assert summed(model, collator, most) == pytest.approx(expected_loss(model, tokens, range(len(tokens))), rel=1e-5)


def test_rows_share_the_lines_of_their_batch(model: Any, tiny_dataset: Path) -> None:
    """Where the longest row leaves room others stand behind each other: the same loss from fewer tokens."""
    tokens = read_tokens(tiny_dataset / "train.parquet")
    rows = Language(tokens, 0)
    made = plan(rows.lengths, epochs=1, micro_batch_size=8)
    apart, filled = Batches(rows, made.batches), Batches(rows, made.batches, fill=True)
    assert summed(model, filled) == pytest.approx(summed(model, apart), rel=1e-5)

    def area(batches: Batches) -> int:
        return sum(batches[i][0]["input_ids"].numel() for i in range(len(batches)))

    mixed = Language(
        Tokens(["a", "b", "c"], [np.arange(n) for n in (40, 18, 17)], [np.arange(n) for n in (40, 18, 17)]), 0
    )
    assert area(Batches(mixed, [((0,), (1,), (2,))])) == 3 * 39
    assert area(Batches(mixed, [((0,), (1,), (2,))], fill=True)) == 2 * 39
    assert filled.names(0) == apart.names(0)


def test_packed_rows_do_not_see_each_other(model: Any, packed_dataset: Path) -> None:
    tokens = read_tokens(packed_dataset / "train.parquet")
    made = plan(tokens.lengths, epochs=1, micro_batch_size=2, pack_into=256)
    collator = Batches(Language(tokens, 0), made.batches)
    assert max(len(sequence) for batch in made.batches for sequence in batch) > 2
    expected = expected_loss(model, tokens, range(len(tokens)))
    assert summed(model, collator) == pytest.approx(expected, rel=1e-5)
    without = [
        {key: value for key, value in collator[i][0].items() if key != "position_ids"} for i in range(len(collator))
    ]
    with torch.no_grad():
        leaking = sum(float(sft.loss_sum(model, batch)) for batch in without)
    assert abs(leaking - expected) > 1e-3 * expected  # the position ids are what keeps them apart


def test_accumulation_weighs_tokens_not_batches(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Eight rows at once, or in four unequal parts: the same gradients, so nearly the same adapter."""
    whole = run_training(
        tmp_path / "a", tiny_llama, tiny_dataset, micro_batch_size=32, max_steps=2, warmup_ratio=0.0, logging_steps=1
    )
    parts = run_training(
        tmp_path / "b", tiny_llama, tiny_dataset, micro_batch_size=5, gradient_accumulation_steps=7, max_steps=2,
        warmup_ratio=0.0, logging_steps=1,
    )  # fmt: skip
    assert parts.facts["loss"] == pytest.approx(whole.facts["loss"], rel=2e-4)


def test_a_packed_run_ends_as_an_unpacked_one(
    tiny_llama: Path, tiny_dataset: Path, packed_dataset: Path, tmp_path: Path
) -> None:
    loose = run_training(tmp_path / "a", tiny_llama, tiny_dataset, micro_batch_size=40, max_steps=2)
    packed = run_training(tmp_path / "b", tiny_llama, packed_dataset, micro_batch_size=40, max_steps=2)
    assert packed.facts["loss"] == pytest.approx(loose.facts["loss"], rel=2e-4)


def test_it_learns_and_writes_the_files_of_the_contract(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    params = stage.Params(max_steps=12, micro_batch_size=8, learning_rate=5e-3, lora_r=8, threads=1, base_model="tiny")
    inputs = Inputs({"data": dataset_artifact(tiny_dataset)}, {"base": tiny_llama})
    folder, scratch = tmp_path / "adapter", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    said: list[Progress] = []
    outcome = stage.run(params, inputs, Work(folder, scratch, listen=said.append))
    assert outcome.kind == "adapter"
    assert outcome.volatile[0] == "speed.json"
    assert all(name.startswith("tensorboard/") for name in outcome.volatile[1:])
    assert len(outcome.volatile) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "curve.jsonl", "speed.json",
        "tensorboard", "training.json",
    ]  # fmt: skip
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    evaluations = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert evaluations[-1] < evaluations[0]
    assert outcome.facts["eval_loss"] == evaluations[-1]
    assert [progress.done for progress in said] == list(range(1, 13))
    assert {"loss", "tokens/s", "left", "validation"} <= set(said[-1].values)
    training = json.loads((folder / "training.json").read_text())
    assert training["base"]["ref"] == "tiny"
    assert len(training["quantization"]["weights"]) == 14
    assert training["stop_ids"] == [319]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    card = (folder / "README.md").read_text()
    assert training["datasets"]
    assert f"datasets: {json.dumps(training['datasets'])}\n" in card
    assert str(tiny_llama.parent) not in card, "nothing about this machine"
    assert config["target_modules"] == sorted(config["target_modules"])
    for path in folder.rglob("*.json*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_the_validation_loss_is_that_of_the_written_adapter(
    tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    result = run_training(tmp_path / "a", tiny_llama, tiny_dataset)
    tokens = read_tokens(tiny_dataset / "validation.parquet")
    tuned = open_tuned(tiny_llama, tmp_path / "a", device="cpu")
    trained = sum(int((labels[1:] != -100).sum()) for labels in tokens.labels)
    loss = expected_loss(tuned, tokens, range(len(tokens))) / trained
    assert result.facts["eval_loss"] == pytest.approx(loss, rel=1e-5)


# setting -> another value (with others that it needs); each must change the adapter, or it never reached its use
CHANGES: dict[str, Any] = {
    "adapter": "lora",
    "bnb_4bit_quant_type": "fp4",
    "bnb_4bit_use_double_quant": False,
    "lora_r": 2,
    "lora_alpha": 16,
    "lora_dropout": 0.3,
    "lora_target_modules": ["q_proj", "v_proj"],
    "lora_layers": [-1, -1],
    "lora_init": "loftq",
    "use_rslora": True,
    "use_dora": True,
    "loraplus_lr_ratio": 8.0,
    "trainable_tokens": ["<|im_end|>"],
    "micro_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "tokens_per_step": 600,
    "max_steps": 3,
    "learning_rate": 5e-4,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.6,
    "min_lr_ratio": (0.9, {"lr_scheduler": "cosine_with_min_lr"}),
    "weight_decay": 0.5,
    "max_grad_norm": 0.01,
    "optimizer": "adafactor",
    "neftune_noise_alpha": 20.0,
    "seed": 11,
    "compute_dtype": "bfloat16",
}
SAME = {"gradient_checkpointing", "save_steps", "save_total_limit", "threads", "report_to"}  # speed or safety only
# In tests of their own, here and in test_objectives*.py, test_practice.py, test_phases.py.
ELSEWHERE = {
    "eval_steps", "logging_steps", "early_stopping_patience", "num_epochs", "base_model", "objective", "keep_best",
    "max_loss_ratio", "sample_answers", "use_liger", "beta", "dpo_loss", "label_smoothing", "desirable_weight",
    "undesirable_weight", "rewards", "num_generations", "max_completion_length", "temperature", "grpo_loss",
    "class_weights", "teacher", "distill_kl", "distill_temperature", "distill_alpha", "previous",
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tiny_llama: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("plain") / "adapter"
    run_training(folder, tiny_llama, tiny_dataset, max_steps=4)
    return contents(folder)["adapter_model.safetensors"]


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_setting_changes_the_adapter(
    name: str, plain: bytes, tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    value, more = CHANGES[name] if isinstance(CHANGES[name], tuple) else (CHANGES[name], {})
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, **{"max_steps": 4, name: value, **more})
    assert contents(tmp_path / "a")["adapter_model.safetensors"] != plain


def test_recomputing_activations_changes_nothing(
    plain: bytes, tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, max_steps=4, gradient_checkpointing=True)
    assert contents(tmp_path / "a")["adapter_model.safetensors"] == plain


def test_every_parameter_is_accounted_for() -> None:
    assert set(stage.Params.model_fields) == set(CHANGES) | SAME | ELSEWHERE


def test_points_of_the_curve_and_evaluations() -> None:
    history: list[dict[str, Any]] = []
    for step in range(1, 8):
        history.append({"step": step, "loss": float(step), "learning_rate": 0.1})
        if step in (3, 6):
            history.append({"step": step, "eval_loss": 1 / step})
    assert curve(history, 3) == [
        {"step": 3, "loss": 2.0, "learning_rate": 0.1, "eval_loss": 0.3333333},
        {"step": 6, "loss": 5.0, "learning_rate": 0.1, "eval_loss": 0.1666667},
        {"step": 7, "loss": 7.0, "learning_rate": 0.1},
    ]


def test_patience_counts_evaluations_since_the_best() -> None:
    def after(*found: float) -> bool:
        return is_patience_over([{"step": i, "eval_loss": loss} for i, loss in enumerate(found)], 2)

    assert not after(3.0, 2.0, 2.5)
    assert after(3.0, 2.0, 2.5, 2.0)
    assert not after(3.0, 2.0, 2.5, 1.9)
    assert not is_patience_over([{"step": 1, "eval_loss": 1.0}] * 9, None)


def test_a_checkpoint_is_wanted_after_a_minute_and_where_it_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Schedule(steps=10, evaluate_at=frozenset({5, 10})))
    assert [step for step in range(1, 11) if watch.wants_checkpoint(step)] == [5]
    watch.saved -= 61
    assert watch.wants_checkpoint(2)
    assert [s for s in range(1, 7) if Watch(Schedule(9, frozenset(), save_every=2)).wants_checkpoint(s)] == [2, 4, 6]


def test_a_diverging_run_stops_with_a_hint(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"the training diverged: the loss of step \d+ is (nan|inf)") as raised:
        run_training(
            tmp_path / "a",
            tiny_llama,
            tiny_dataset,
            max_steps=20,
            learning_rate=1e30,
            max_grad_norm=1e9,
            warmup_ratio=0,
        )
    assert "lower learning_rate" in str(raised.value)
    assert list((tmp_path / "a").iterdir()) == []


def test_optimizers_of_a_gpu_are_refused_without_one() -> None:
    for name in ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"):
        with pytest.raises(MissingError, match=f"the optimizer {name} needs a CUDA device"):
            optimizer_name(name, "cpu")
        assert optimizer_name(name, "cuda") == name
    assert optimizer_name("adamw_torch", "cpu") == "adamw_torch_fused"


def test_warm_up(tmp_path: Path) -> None:
    assert warmup_steps(Settings(warmup_ratio=0.03), 100) == 3
    assert warmup_steps(Settings(warmup_ratio=0.03), 10) == 1
    assert warmup_steps(Settings(warmup_ratio=0.5, lr_scheduler="constant"), 10) == 0
    made = training_arguments(Settings(warmup_ratio=0.25), steps=40, device="cpu", dtype="float32", output=tmp_path)
    assert made.warmup_steps == 10
    assert not made.bf16
    assert made.report_to == []


def test_patience_needs_validation_rows(tiny_llama: Path, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", tiny_llama, 8, val_set_size=None)
    with pytest.raises(InputError, match="early_stopping_patience needs validation rows"):
        run_training(tmp_path / "a", tiny_llama, dataset, early_stopping_patience=2)


def test_modules_that_are_not_there(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lora_target_modules do not fit the base model") as raised:
        run_training(tmp_path / "a", tiny_llama, tiny_dataset, lora_target_modules=["c_attn"])
    assert "q_proj" in str(raised.value)


def test_the_process_is_left_as_it_was(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, max_steps=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: bf16/fp16, paged optimizers, 4 bits in place"
)
def test_training_on_cuda(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    result = run_training(
        tmp_path / "a",
        tiny_llama,
        tiny_dataset,
        optimizer="paged_adamw_8bit",
        gradient_checkpointing=True,
        max_steps=20,
    )
    assert math.isfinite(result.facts["eval_loss"])
    assert result.measurements["peak_vram"] > 0
