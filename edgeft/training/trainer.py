"""transformers' `Trainer`, told what it cannot know: our batches, our loss, whole checkpoints, an exact validation
loss.

TRL's trainers are not used for the loop: on a CPU its `SFTTrainer` computes entropy and token accuracy of every
position at every step (measured: a third of the step of a small model), and none of them resumes to the same bytes. Its
fused head is used where logits would be large; see `objectives.likelihood`. Called by `edgeft.training.run`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.training import checkpoints
from edgeft.training.adapter import put, values
from edgeft.training.arguments import Settings
from edgeft.training.batches import Batches
from edgeft.training.board import Board
from edgeft.training.objectives import Bound
from edgeft.training.watch import FIGURE, Watch, best_step, is_patience_over

BEST = "best.safetensors"


@dataclass(frozen=True)
class Task:
    """What a Trainer is made for. `digest` is one of everything that the result depends on."""

    model: Any  # the peft model, or the whole one
    objective: Bound
    train: Batches
    validation: Batches | None
    watch: Watch
    scratch: Path
    digest: str
    device: str
    settings: Settings = field(default_factory=Settings)
    board: Board = field(default_factory=lambda: Board(None))
    samples: Any = None  # () -> the model's answers, to be kept in the history
    rates: Callable[[int], float] | None = (
        None  # step -> factor of the learning rate, instead of the settings' schedule
    )


class BestWeights:
    """The trained values at the lowest validation loss, kept in memory and with each checkpoint."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tensors: dict[str, Any] | None = None

    def take(self) -> None:
        self._tensors = {name: tensor.detach().cpu().clone() for name, tensor in values(self._model).items()}

    def put_back(self) -> None:
        if self._tensors is not None:
            put(self._model, self._tensors)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        if self._tensors is not None:
            save_file(self._tensors, folder / BEST)

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if (folder / BEST).is_file():
            self._tensors = load_file(folder / BEST)


def make_trainer(task: Task, arguments: Any) -> Any:
    """A `Trainer` over `task`; `arguments` are transformers' `TrainingArguments` (`edgeft.training.arguments`)."""
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    kind: Any = type("Edged", (_Ours, Trainer), {"task": task, "best": BestWeights(task.model)})
    trainer = kind(model=task.model, args=arguments, train_dataset=task.train, data_collator=_single)
    trainer.model_accepts_loss_kwargs = True  # the loss is already divided by the items of the whole step
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(type("Told", (_Told, TrainerCallback), {"task": task})())
    return trainer


def _single(batches: list[Any]) -> Any:
    """The loader's collation: an item of our data set is a whole micro-batch."""
    return batches[0]


class _Told:
    """The methods of a `TrainerCallback` that ask `Watch` at each step what to do next."""

    task: Task

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log = True
        if self.task.validation is not None:
            control.should_evaluate = self.task.watch.wants_evaluation(state.global_step)
        control.should_save = self.task.watch.wants_checkpoint(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.task.board.add({**(logs or {}), "step": state.global_step})
        if logs and "loss" in logs:
            self.task.watch.step_done(state.global_step, float(logs["loss"]), state.log_history)
            if self.task.watch.stopped:
                control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if is_patience_over(state.log_history, self.task.watch.schedule.patience):
            control.should_training_stop = True


class _Ours:
    """The methods of a `Trainer` that are ours: loss, validation, checkpoints. They stand before transformers' own
    (which is imported only when one is made)."""

    task: Task
    best: BestWeights

    def training_step(self, model: Any, inputs: Sequence[Any], num_items_in_batch: Any = None) -> Any:
        """The parts of a micro-batch one after the other: their gradients add up."""
        step: Any = super().training_step  # type: ignore[misc]
        return sum(step(model, part, num_items_in_batch) for part in inputs)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return self.task.objective.loss_sum(model, inputs) / num_items_in_batch

    def _get_num_items_in_batch(self, batch_samples: Sequence[Any], device: Any) -> Any:
        """Items of an optimizer step: its micro-batches weigh by their tokens (or rows), not each the same."""
        return sum(self.task.objective.items(part).to(device) for parts in batch_samples for part in parts)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # counts the model's parameters anew for every batch otherwise

    def create_optimizer(self: Any, model: Any = None) -> Any:
        if self.optimizer is None and self.task.settings.loraplus_lr_ratio:
            self.optimizer = _lora_plus(self, self.task)
        return super().create_optimizer(model)  # type: ignore[misc]

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None and self.task.rates is not None:
            from torch.optim.lr_scheduler import LambdaLR

            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, self.task.rates)
        return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for name, told in self.task.objective.figures.items():
                if told:
                    logs[FIGURE + name] = sum(told) / len(told)
                told.clear()
        super().log(logs, start_time)  # type: ignore[misc]

    def evaluate(self: Any, *_: Any, **__: Any) -> dict[str, float]:
        metrics = held_out(self, self.task)
        self.log(dict(metrics))
        if self.task.samples is not None:
            self.state.log_history.append({"step": self.state.global_step, "samples": self.task.samples()})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if best_step(self.state.log_history) == self.state.global_step and self.task.settings.takes_best:
            self.best.take()
        return metrics

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.task.scratch / checkpoints.PARTIAL)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        task: Task = self.task
        name = f"checkpoint-{self.state.global_step}"
        with checkpoints.writing(task.scratch):
            files.remove_tree(task.scratch / checkpoints.PARTIAL)
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.best.save(task.scratch / checkpoints.PARTIAL / name)
            checkpoints.settle(task.scratch, name, task.digest, task.settings.save_total_limit)
        task.watch.saved, task.watch.saved_step = time.monotonic(), self.state.global_step

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapter only (or the whole model): no model card, no pickled arguments."""
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        self.task.model.save_pretrained(output_dir, safe_serialization=True)


def _lora_plus(trainer: Any, task: Task) -> Any:
    """The recipe's optimizer with LoRA+'s rates (Hayou et al. 2024, arXiv:2402.12354), by peft."""
    from peft.optimizers import create_loraplus_optimizer

    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, task.model)
    rate = options.pop("lr")
    return create_loraplus_optimizer(
        task.model,
        kind,
        lr=rate,
        loraplus_lr_ratio=task.settings.loraplus_lr_ratio,
        loraplus_weight_decay=task.settings.weight_decay,
        **options,
    )


def held_out(trainer: Any, task: Task) -> dict[str, float]:
    """{"eval_loss": nats (or what the objective minimises) per item over the whole validation split, each weighing the
    same; "eval_NAME": means of what it judges}. Draws no random number."""
    total, count = 0.0, 0.0
    judged: dict[str, list[float]] = {}
    loss = task.objective.held_out or task.objective.loss_sum
    for _, part in _validation_parts(trainer, task):
        total += float(loss(trainer.model, part))
        count += float(task.objective.items(part))
        if task.objective.judge is not None:
            for name, told in task.objective.judge(trainer.model, part).items():
                judged.setdefault(name, []).extend(told)
    for told in task.objective.figures.values():
        told.clear()
    means = {f"eval_{name}": sum(judged[name]) / len(judged[name]) for name in ("accuracy", "reward") if name in judged}
    return {"eval_loss": total / count, **means}


def judge_rows(trainer: Any, task: Task) -> dict[str, dict[str, float]]:
    """Row id -> what the objective finds of it on the validation split; empty for objectives that judge nothing."""
    found: dict[str, dict[str, float]] = {}
    if task.objective.judge is None or task.validation is None:
        return found
    for names, part in _validation_parts(trainer, task):
        judged = task.objective.judge(trainer.model, part)
        for index, name in enumerate(names):
            found[name] = {key: told[index] for key, told in judged.items()}
    return found


def _validation_parts(trainer: Any, task: Task) -> Any:
    """(ids, part on the device) of each validation batch, the model in eval mode, without gradients."""
    import torch

    assert task.validation is not None
    model = trainer.model
    was_training = model.training
    model.eval()
    try:
        for index in range(len(task.validation)):
            (part,) = task.validation[index]
            part = {name: tensor.to(task.device) for name, tensor in part.items()}
            with torch.no_grad(), trainer.compute_loss_context_manager(), _autocast(trainer, task.device):
                yield task.validation.names(index), part
    finally:
        model.train(was_training)


def _autocast(trainer: Any, device: str) -> Any:
    """The mixed precision that training steps run in (accelerate wraps the model's forward; this is for its eval)."""
    import torch

    if device == "cpu":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else None
    return torch.autocast("cuda", dtype=dtype) if dtype else contextlib.nullcontext()
