"""The recipe's `train:` section as transformers' `TrainingArguments`. Called by `edgeft.training.run`."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    adapter: str = "qlora"
    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.0
    lora_target_modules: str | list[str] = "all-linear"
    micro_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    num_epochs: float = 3
    max_steps: int | None = None
    learning_rate: float = 2e-4
    lr_scheduler: str = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch"
    gradient_checkpointing: bool = False
    neftune_noise_alpha: float | None = None
    early_stopping_patience: int | None = None
    eval_steps: int | None = None
    save_steps: int | None = None
    logging_steps: int = 10
    threads: int | None = None
    compute_dtype: str = "auto"
    seed: int = 0
    objective: str = "sft"


def training_arguments(settings: Settings, *, steps: int, device: str, dtype: str, output: Path) -> Any:
    """`TrainingArguments` of a run of `steps` optimizer steps on `device` ("cpu" or "cuda") computing in `dtype`.

    Batches, epochs, logging, evaluation and saving are not its business: see `batches` and `watch`."""
    from transformers import TrainingArguments

    cpu = device == "cpu"
    made = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=1,  # one item of our data set is one micro-batch
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        num_train_epochs=1,  # the data set holds all epochs, in order
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
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
        report_to="none",
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


def optimizer_name(name: str, device: str) -> str:
    """transformers' name of a recipe's optimizer; a `MissingError` when it needs a CUDA device that is not there."""
    on_cpu, on_cuda = OPTIMIZERS[name]
    if device != "cpu":
        return on_cuda
    if on_cpu is None:
        raise MissingError(f"the optimizer {name} needs a CUDA device", do="write optimizer: adamw_torch under train:")
    return on_cpu
