"""Each objective's loss is that of TRL's trainer (or transformers', scikit-learn's) on the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.errors import InputError
from edgeft.models.open import open_base
from edgeft.recipe import names
from edgeft.training import forms
from edgeft.training.adapter import make
from edgeft.training.arguments import Settings
from edgeft.training.batches import Batches
from edgeft.training.objectives import OBJECTIVES, ROWS, Bound, Context, dpo, likelihood
from tests.training.made import run_training
from tests.training.rows_made import made, tokenizer_of

DATA = {"dpo": "preference", "orpo": "preference", "reward": "preference", "kto": "unpaired_preference"}
COUNT = 6


def stirred(model: Any, seed: int = 3) -> None:
    """An adapter as if it had been trained: its second matrices are no zeros any more."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(0, 0.1, generator=generator)


def bound(base: Path, dataset: Path, objective: str, **changes: Any) -> tuple[Any, Bound, Any]:
    """(the model with a stirred adapter, the objective bound before that, the first batch of `COUNT` rows)."""
    settings = Settings(objective=objective, adapter="lora", lora_r=4, lora_alpha=8, **changes)
    labels = {"reward": ("reward",), "classification": ("kitchen", "bedroom", "bath")}.get(objective)
    model = open_base(base, device="cpu", labels=labels)
    if labels is None:
        likelihood.prepare(model)
    torch.manual_seed(0)
    tuned = make(model, settings, base=base).model
    rows = forms.read(ROWS[objective], dataset / "train.parquet", 317)
    held = forms.read(ROWS[objective], dataset / "validation.parquet", 317)
    context = Context(settings, tuned, rows, held, base, stop_ids=(319,), labels=labels or ())
    objective_ = OBJECTIVES[objective].load().bind(context)
    stirred(tuned)
    (batch,) = Batches(rows, [tuple((i,) for i in range(COUNT))])[0]
    return tuned, objective_, batch


def mean_loss(model: Any, objective: Bound, batch: Any) -> float:
    return float(objective.loss_sum(model, batch) / objective.items(batch))


def test_every_objective_of_the_recipe_is_there() -> None:
    from edgeft.data import masks  # noqa: F401  (the data package decides the rows by the same names)

    assert tuple(OBJECTIVES) == tuple(sorted(OBJECTIVES, key=list(OBJECTIVES).index))
    assert set(OBJECTIVES) == set(names.OBJECTIVES) == set(ROWS)
    assert set(dpo.NAMES) == set(names.DpoLoss.__args__)  # type: ignore[attr-defined]


def trl(kind: str, model: Any, base: Path, folder: Path, config: str, **settings: Any) -> Any:
    """A TRL trainer over the very model, made with one row of text that is never used."""
    import datasets as hf
    import trl as library
    from trl.experimental import orpo

    from edgeft.models.quiet import quiet

    tokenizer = tokenizer_of(base)
    rows = hf.Dataset.from_list([{"prompt": "Turn", "chosen": " on", "rejected": " off"}] * 2)
    if kind == "KTOTrainer":
        rows = hf.Dataset.from_list([{"prompt": "Turn", "completion": " on", "label": bool(i % 2)} for i in range(4)])
    home = orpo if kind.startswith("ORPO") else library
    with quiet():
        arguments = getattr(home, config)(
            output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False,
            per_device_train_batch_size=2, **settings,
        )  # fmt: skip
        return getattr(home, kind)(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)


@pytest.fixture(scope="module")
def preferred(tiny_llama: Path, datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A bound dpo, and TRL's trainer over the same model with its reference taken where ours was."""
    model, _objective, batch = bound(tiny_llama, datasets["preference"], "dpo")
    trainer = trl("DPOTrainer", model, tiny_llama, tmp_path_factory.mktemp("trl"), "DPOConfig", beta=0.1)
    model.delete_adapter("ref")  # its copy of the stirred adapter; without it the reference is the base, as ours
    trainer.aux_loss_enabled = False
    return model, batch, trainer


@pytest.mark.parametrize("loss", dpo.NAMES)
def test_dpo_is_trls(loss: str, preferred: Any, tiny_llama: Path, datasets: dict[str, Path]) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    model, batch, trainer = preferred
    smoothing = 0.1 if loss in ("robust", "exo_pair", "aot", "aot_unpaired") else 0.0
    trainer.loss_types, trainer.label_smoothing, trainer.use_weighting = [loss], smoothing, False
    rows = [dict(row) for row in made("preference", tiny_llama, COUNT)]
    model.eval()
    with torch.no_grad():
        expected = float(trainer._compute_loss(model, DataCollatorForPreference(317)(rows), False))
        ours = dpo.losses(loss, dpo.compare(model, batch), 0.1, smoothing).mean()
    assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_the_first_model_is_the_base_without_its_adapter(tiny_llama: Path, datasets: dict[str, Path]) -> None:
    model, _, batch = bound(tiny_llama, datasets["preference"], "dpo")
    with torch.no_grad(), model.disable_adapter():
        first = likelihood.answer_logps(model, batch)
    assert torch.allclose(first, batch["reference"], rtol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(likelihood.answer_logps(model, batch), batch["reference"], rtol=1e-2)


def test_smoothed_sigmoid_is_the_mean_of_both_orders() -> None:
    value = torch.tensor([0.7, -2.0])
    it = dpo.Compared(value, torch.zeros(2), *[torch.ones(2)] * 2, value, torch.zeros(2))
    swapped = dpo.Compared(torch.zeros(2), value, *[torch.ones(2)] * 2, -value, torch.zeros(2))
    both = 0.8 * dpo.losses("sigmoid", it, 0.5, 0.0) + 0.2 * dpo.losses("sigmoid", swapped, 0.5, 0.0)
    assert torch.allclose(dpo.losses("sigmoid", it, 0.5, 0.2), both)


def test_kto_is_trls(tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    from trl.trainer.utils import pad

    model, objective, batch = bound(
        tiny_llama, datasets["unpaired_preference"], "kto", desirable_weight=1.5, undesirable_weight=0.5
    )
    settings = {"beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    trainer = trl("KTOTrainer", model, tiny_llama, tmp_path, "KTOConfig", **settings)
    model.delete_adapter("ref")
    rows = made("unpaired_preference", tiny_llama, 24)

    def side(answers: list[list[int]], prefix: str) -> dict[str, Any]:
        whole = [[*row["prompt_ids"], *answer] for row, answer in zip(rows, answers, strict=False)]
        masks = [[0] * len(row["prompt_ids"]) + [1] * len(answer) for row, answer in zip(rows, answers, strict=False)]
        return {
            f"{prefix}input_ids": pad([torch.tensor(ids) for ids in whole], padding_value=317),
            f"{prefix}attention_mask": pad([torch.ones(len(ids), dtype=torch.long) for ids in whole], padding_value=0),
            f"{prefix}completion_mask": pad([torch.tensor(mask) for mask in masks], padding_value=0),
        }

    own = side([rows[i]["completion_ids"] for i in range(COUNT)], "")
    other = side([rows[i - 1]["completion_ids"] for i in range(COUNT)], "KL_")
    labels = torch.tensor([row["label"] for row in rows[:COUNT]])
    model.eval()
    with torch.no_grad():
        expected = float(trainer._compute_loss(model, {**own, **other, "label": labels}, False))
        assert mean_loss(model, objective, batch) == pytest.approx(expected, rel=1e-5)


def test_orpo_is_trls(tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    model, objective, batch = bound(tiny_llama, datasets["preference"], "orpo", beta=0.3)
    trainer = trl("ORPOTrainer", model, tiny_llama, tmp_path, "ORPOConfig", beta=0.3, max_length=128)
    rows = made("preference", tiny_llama, COUNT)
    given: dict[str, Any] = {}
    for side in ("chosen", "rejected"):
        whole = [[*row["prompt_ids"], *row[f"{side}_ids"]] for row in rows]
        labels = [[-100] * len(row["prompt_ids"]) + row[f"{side}_ids"] for row in rows]
        given[f"{side}_input_ids"] = torch.from_numpy(forms.padded(whole, 317))
        given[f"{side}_labels"] = torch.from_numpy(forms.padded(labels, -100))
        given[f"{side}_attention_mask"] = torch.from_numpy(forms.padded([[1] * len(ids) for ids in whole], 0))
    model.eval()
    with torch.no_grad():
        expected = float(trainer.get_batch_loss_metrics(model, given)[0])
        assert mean_loss(model, objective, batch) == pytest.approx(expected, rel=1e-5)


def test_reward_is_trls(tiny_llama: Path, datasets: dict[str, Path]) -> None:
    from trl import RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    model, objective, batch = bound(tiny_llama, datasets["preference"], "reward")
    rows = [
        {f"{side}_ids": [*row["prompt_ids"], *row[f"{side}_ids"]] for side in ("chosen", "rejected")}
        for row in made("preference", tiny_llama, COUNT)
    ]
    trainer = _Bare(model)
    model.eval()
    with torch.no_grad():
        expected = float(RewardTrainer.compute_loss(trainer, model, DataCollatorForPreference(317)(rows)))  # type: ignore[arg-type]
        assert mean_loss(model, objective, batch) == pytest.approx(expected, rel=1e-5)


class _Bare:
    """What TRL's loss functions ask of their trainer besides the model."""

    def __init__(self, model: Any, **more: Any) -> None:
        from collections import defaultdict
        from types import SimpleNamespace

        self.model = model
        self.args = SimpleNamespace(center_rewards_coefficient=None)
        self.accelerator = SimpleNamespace(
            gather=lambda it: it, gather_for_metrics=lambda it: it, reduce=lambda it, reduction: it, num_processes=1
        )
        self._metrics: Any = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._total_train_tokens, self._tp_size = 0, 1
        self.__dict__ |= more


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_grpo_is_trls(loss: str, beta: float, tiny_llama: Path, datasets: dict[str, Path]) -> None:
    from types import SimpleNamespace

    from trl import GRPOTrainer

    from edgeft.training.objectives import grpo

    model, _, batch = bound(tiny_llama, datasets["prompts"], "grpo", rewards=[{"type": "exact_match", "weight": 1.0}])
    settings = Settings(beta=beta, grpo_loss=loss, temperature=0.7, max_completion_length=16, num_generations=2)
    answers = [[10 + i, 20, 30 + i][: 1 + i % 3] for i in range(2 * COUNT)]
    advantages = grpo.group_advantages(torch.arange(2.0 * COUNT) % 5, 2)
    whole = grpo.answered_again(batch, answers, 2)
    model.eval()

    def logps(self: Any, model: Any, ids: Any, mask: Any, keep: int, **_: Any) -> Any:
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -keep - 1 : -1] / 0.7
        found = torch.log_softmax(logits, dim=-1).gather(2, ids[:, -keep:, None]).squeeze(2)
        return found, torch.zeros_like(found), None

    completion = torch.from_numpy(forms.padded(answers, 0))
    mask = torch.from_numpy(forms.padded([[1] * len(answer) for answer in answers], 0))
    prompt, prompt_mask = (batch[name].repeat_interleave(2, dim=0) for name in ("prompt_ids", "prompt_mask"))
    trainer = _Bare(
        model, loss_type=loss, beta=beta, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", epsilon_low=0.2, epsilon_high=0.2, use_vllm=False,
        aux_loss_enabled=False, _entropy_bonus_enabled=False, max_completion_length=16,
        current_gradient_accumulation_steps=1, args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
    )  # fmt: skip
    trainer._get_per_token_logps_and_entropies = logps.__get__(trainer)  # type: ignore[attr-defined]
    ids, both = torch.cat([prompt, completion], 1), torch.cat([prompt_mask, mask], 1)
    with torch.no_grad(), model.disable_adapter():
        first = logps(trainer, model, ids, both, completion.shape[1])[0]
    given = {
        "prompt_ids": prompt, "prompt_mask": prompt_mask, "completion_ids": completion, "completion_mask": mask,
        "advantages": advantages, "ref_per_token_logps": first,
    }  # fmt: skip
    gradients = []
    for made_loss in (
        lambda: GRPOTrainer._compute_loss(trainer, model, given),  # type: ignore[arg-type]
        lambda: grpo.policy_loss(model, whole, advantages, settings),
    ):
        model.zero_grad()
        value = made_loss()
        value.backward()
        gradients.append(
            (float(value), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        )
    (expected, theirs), (ours, own) = gradients
    assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert float((theirs - own).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("reverse", [False, True])
def test_distillation_is_trls(reverse: bool) -> None:
    from trl.experimental.gkd import GKDTrainer

    from edgeft.training.objectives import distill

    student, teacher = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0)), torch.randn(2, 5, 11)
    expected = GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=1.0 if reverse else 0.0, temperature=2.0, num_items_in_batch=1
    )
    ours = distill.divergence(student.flatten(0, 1), teacher.flatten(0, 1), 2.0, reverse=reverse)
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("weights", [None, "balanced", {"bath": 3.0}])
def test_classification_is_transformers(weights: Any, tiny_llama: Path, datasets: dict[str, Path]) -> None:
    model, objective, batch = bound(tiny_llama, datasets["classification"], "classification", class_weights=weights)
    model.eval()
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        ours = mean_loss(model, objective, batch)
        if weights is None:
            assert ours == pytest.approx(float(model(**given, labels=batch["labels"]).loss), rel=1e-5)
            return
        table = torch.tensor([1.0, 1.0, 3.0])
        if weights == "balanced":
            from sklearn.utils.class_weight import compute_class_weight

            labels = np.array([row["label"] for row in made("classification", tiny_llama, 24)])
            table = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=labels), dtype=torch.float32)
        expected = torch.nn.CrossEntropyLoss(table)(model(**given).logits, batch["labels"])
    assert ours == pytest.approx(float(expected), rel=1e-5)


def test_a_label_that_is_none_is_refused(tiny_llama: Path, datasets: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="class_weights names no label of the rows: 'attic'"):
        bound(tiny_llama, datasets["classification"], "classification", class_weights={"attic": 2.0})


def test_rows_of_another_form_are_refused(tiny_llama: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="objective dpo learns from preference rows, the dataset has prompts rows"):
        run_training(tmp_path / "a", tiny_llama, datasets["prompts"], objective="dpo")
