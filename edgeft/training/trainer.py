"""transformers' `Trainer`, told what it cannot know: our batches, our loss, whole checkpoints, an exact validation
loss.

TRL's `SFTTrainer` is not used for the loop: on a CPU it computes entropy and token accuracy of every position at
every step (measured: a third of the step of a small model). Its fused head is used where logits would be large; see
`objectives.sft`. Called by `edgeft.training.run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.training import checkpoints
from edgeft.training.batches import Collator
from edgeft.training.watch import Watch, best_step, is_patience_over

BEST = "best.safetensors"


@dataclass(frozen=True)
class Task:
    """What a Trainer is made for. `settings` is a digest of everything that the result depends on."""

    model: Any  # the peft model
    objective: Any
    train: Collator
    validation: Collator | None
    watch: Watch
    scratch: Path
    settings: str
    device: str


class BestWeights:
    """The adapter's values at the lowest validation loss, kept in memory and with each checkpoint."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tensors: dict[str, Any] | None = None

    def take(self) -> None:
        self._tensors = {name: tensor.detach().cpu().clone() for name, tensor in self._current().items()}

    def put_back(self) -> None:
        from peft import set_peft_model_state_dict

        if self._tensors is not None:
            set_peft_model_state_dict(self._model, self._tensors)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        if self._tensors is not None:
            save_file(self._tensors, folder / BEST)

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if (folder / BEST).is_file():
            self._tensors = load_file(folder / BEST)

    def _current(self) -> Mapping[str, Any]:
        from peft import get_peft_model_state_dict

        found: Mapping[str, Any] = get_peft_model_state_dict(self._model)
        return found


def make_trainer(task: Task, arguments: Any) -> Any:
    """A `Trainer` over `task`; `arguments` are transformers' `TrainingArguments` (`edgeft.training.arguments`)."""
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    class Callback(TrainerCallback):  # type: ignore[misc]
        """Ask `Watch` at each step what to do next."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_log = True
            if task.validation is not None:
                control.should_evaluate = task.watch.wants_evaluation(state.global_step)
            control.should_save = task.watch.wants_checkpoint(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                task.watch.step_done(state.global_step, float(logs["loss"]), state.log_history)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if is_patience_over(state.log_history, task.watch.schedule.patience):
                control.should_training_stop = True

    class Edged(Trainer):  # type: ignore[misc]
        """Our loss, our validation, our checkpoints."""

        best = BestWeights(task.model)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            return task.objective.loss_sum(model, inputs) / num_items_in_batch

        def _get_num_items_in_batch(self, batch_samples: Sequence[Any], device: Any) -> Any:
            """Trained tokens of an optimizer step: its micro-batches weigh by their tokens, not each the same."""
            return sum((batch["targets"] != -100).sum() for batch in batch_samples).to(device)  # type: ignore[union-attr]

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # counts the model's parameters anew for every batch otherwise

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            assert task.validation is not None
            metrics = {"eval_loss": validation_loss(self, task)}
            self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            if best_step(self.state.log_history) == self.state.global_step and task.watch.schedule.patience:
                self.best.take()
            return metrics

        def _get_output_dir(self, trial: Any) -> str:
            return str(task.scratch / checkpoints.PARTIAL)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            name = f"checkpoint-{self.state.global_step}"
            with checkpoints.writing(task.scratch):
                files.remove_tree(task.scratch / checkpoints.PARTIAL)
                super()._save_checkpoint(model, trial)
                self.best.save(task.scratch / checkpoints.PARTIAL / name)
                checkpoints.settle(task.scratch, name, task.settings)
            task.watch.saved = _now()

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            """The adapter only: no model card, no pickled arguments."""
            assert output_dir is not None
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            task.model.save_pretrained(output_dir, safe_serialization=True)

    def single(batches: list[Any]) -> Any:
        return batches[0]

    trainer = Edged(model=task.model, args=arguments, train_dataset=task.train, data_collator=single)
    trainer.model_accepts_loss_kwargs = True  # the loss is already divided by the tokens of the whole step
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(Callback())
    return trainer


def validation_loss(trainer: Any, task: Task) -> float:
    """Nats per trained token over the whole validation split: each token weighs the same. Draws no random number."""
    import torch

    assert task.validation is not None
    model = trainer.model
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    try:
        with torch.no_grad():
            for index in range(len(task.validation)):
                batch = {name: tensor.to(task.device) for name, tensor in task.validation[index].items()}
                with trainer.compute_loss_context_manager(), _autocast(trainer, task.device):
                    total += float(task.objective.loss_sum(model, batch))
                count += int((batch["targets"] != -100).sum())
    finally:
        model.train(was_training)
    return total / count


def _autocast(trainer: Any, device: str) -> Any:
    """The mixed precision that training steps run in (accelerate wraps the model's forward; this is for its eval)."""
    import torch

    if device == "cpu":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else None
    return torch.autocast("cuda", dtype=dtype) if dtype else contextlib.nullcontext()


def _now() -> float:
    import time

    return time.monotonic()
