"""The recipe's `train:` section as transformers' `TrainingArguments`. Called by `edgeft.training.run`."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.errors import MissingError

# name in a recipe -> (transformers' name on CPU, on CUDA); None: it needs a CUDA device
OPTIMIZERS: dict[str, tuple[str | None, str]] = {
    "adamw_torch": ("adamw_torch_fused", "adamw_torch_fused"),
    "adamw_8bit": (None, "adamw_8bit"),
    "paged_adamw_8bit": (None, "paged_adamw_8bit"),
    "paged_adamw_32bit": (None, "paged_adamw_32bit"),
    "adafactor": ("adafactor", "adafactor"),
}


@dataclass(frozen=True)
class Settings:
    """What the training is told; the names and defaults of the recipe's `train:` section."""

    objective: str = "sft"
    adapter: str = "qlora"
    bnb_4bit_quant_type: str = "nf4"
    bnb_4bit_use_double_quant: bool = True
    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.0
    lora_target_modules: str | list[str] = "all-linear"
    lora_layers: list[int] | None = None
    lora_init: str = "default"
    use_rslora: bool = False
    use_dora: bool = False
    loraplus_lr_ratio: float | None = None
    trainable_tokens: list[str] | None = None
    micro_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    tokens_per_step: int | None = None
    num_epochs: float = 3
    max_steps: int | None = None
    learning_rate: float = 2e-4
    lr_scheduler: str = "cosine"
    warmup_ratio: float = 0.03
    min_lr_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch"
    gradient_checkpointing: bool = False
    neftune_noise_alpha: float | None = None
    use_liger: bool = False
    early_stopping_patience: int | None = None
    keep_best: bool = False
    max_loss_ratio: float | None = 10.0
    eval_steps: int | None = None
    sample_answers: int = 0
    save_steps: int | None = None
    save_total_limit: int = 1
    logging_steps: int = 10
    report_to: list[str] = field(default_factory=list)
    threads: int | None = None
    compute_dtype: str = "auto"
    beta: float | None = None
    dpo_loss: str = "sigmoid"
    label_smoothing: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    rewards: list[Mapping[str, Any]] = field(default_factory=list)
    num_generations: int = 4
    max_completion_length: int = 64
    temperature: float = 1.0
    grpo_loss: str = "grpo"
    class_weights: str | Mapping[str, float] | None = None
    teacher: str | None = None
    distill_kl: str = "forward"
    distill_temperature: float = 1.0
    distill_alpha: float = 0.0
    previous: str = "carry"
    seed: int = 0

    @property
    def takes_best(self) -> bool:
        """Whether the run ends with the weights of its best evaluation."""
        return self.keep_best or bool(self.early_stopping_patience)


def training_arguments(settings: Settings, *, steps: int, device: str, dtype: str, output: Path) -> Any:
    """`TrainingArguments` of a run of `steps` optimizer steps on `device` ("cpu" or "cuda") computing in `dtype`.

    Batches, epochs, logging, evaluation and saving are not its business: see `batches` and `watch`."""
    from transformers import TrainingArguments

    cpu = device == "cpu"
    made = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=1,  # one item of our data set is one micro-batch
        gradient_accumulation_steps=1 if settings.tokens_per_step else settings.gradient_accumulation_steps,
        num_train_epochs=1,  # the data set holds all epochs, in order
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        lr_scheduler_kwargs=scheduler_settings(settings, steps),
        warmup_steps=warmup_steps(settings, steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=optimizer_name(settings.optimizer, device),
        neftune_noise_alpha=settings.neftune_noise_alpha,
        bf16=not cpu and dtype == "bfloat16",
        fp16=not cpu and dtype == "float16",
        seed=settings.seed,
        use_cpu=cpu,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        report_to=list(settings.report_to) or "none",
        use_liger_kernel=settings.use_liger,
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        log_level="error",
    )
    if made.n_gpu > 1:
        made._n_gpu = 1  # the model lies on the first device; the Trainer would copy it to all (DataParallel)
    return made


def warmup_steps(settings: Settings, steps: int) -> int:
    """Steps in which the learning rate rises; a schedule without a warm-up has none."""
    return 0 if settings.lr_scheduler == "constant" else math.ceil(settings.warmup_ratio * steps)


def scheduler_settings(settings: Settings, steps: int) -> dict[str, Any]:
    """What a schedule is told besides its steps."""
    if settings.lr_scheduler == "cosine_with_min_lr":
        return {"min_lr_rate": settings.min_lr_ratio}
    if settings.lr_scheduler == "warmup_stable_decay":  # a tenth of the steps comes down, as MiniCPM's schedule
        return {"num_decay_steps": max(1, steps // 10), "min_lr_ratio": settings.min_lr_ratio}
    return {}


def check_services(settings: Settings, device: str) -> None:
    """A `MissingError` for packages and hardware that the settings ask for."""
    for name in settings.report_to:
        if importlib.util.find_spec(name) is None:
            raise MissingError(f"report_to: {name} needs the package {name}", do=f"pip install {name}")
    if settings.use_liger:
        if importlib.util.find_spec("liger_kernel") is None:
            raise MissingError("use_liger needs the package liger-kernel", do="pip install liger-kernel")
        if device == "cpu":
            raise MissingError("use_liger needs a CUDA device", do="leave use_liger out")


def optimizer_name(name: str, device: str) -> str:
    """transformers' name of a recipe's optimizer; a `MissingError` when it needs a CUDA device that is not there."""
    on_cpu, on_cuda = OPTIMIZERS[name]
    if device != "cpu":
        return on_cuda
    if on_cpu is None:
        raise MissingError(f"the optimizer {name} needs a CUDA device", do="write optimizer: adamw_torch under train:")
    return on_cpu
