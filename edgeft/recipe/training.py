"""`train:` of a recipe: what is minimised, which adapter is trained, how. Part of `edgeft.recipe.schema`.

The stage's `Params`, the options of `edgeft train` and `edgeft.training.arguments.Settings` have the same names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from edgeft.recipe.names import DpoLoss, LoraInit, Objective
from edgeft.recipe.section import Section, Text

TargetModules = Annotated[
    Annotated[Literal["all-linear", "attention", "mlp"], Tag("word")]
    | Annotated[list[Text], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "word"),
]
ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")] | Annotated[dict[Text, Annotated[float, Field(gt=0)]], Tag("table")],
    Discriminator(lambda value: "table" if isinstance(value, dict) else "word"),
]


class Reward(Section):
    """One reward of `objective: grpo`; an answer gets the weighted sum of them all."""

    type: Literal["exact_match", "regex", "json_schema", "python"] = Field(
        description="1 when the answer is the reference, holds the pattern, is JSON of the schema; or what a file says"
    )
    weight: float = Field(1.0, description="what this reward counts")
    pattern: Text | None = Field(None, description="of regex: searched for in the answer")
    path: Text | None = Field(None, description="of json_schema: the schema's file; of python: the file")
    allow_code: bool = Field(False, description="of python: that its code runs in the training is wanted")


class TrainSection(Section):
    """`train:` how the adapter is trained."""

    objective: Objective = Field("sft", description="what is learnt: the data section's rows have to fit it")
    adapter: Literal["qlora", "lora", "full"] = Field(
        "qlora", description="qlora trains on a 4-bit base, lora on the 16-bit one; full trains all weights, no adapter"
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="of qlora: the 4-bit number format")
    bnb_4bit_use_double_quant: bool = Field(True, description="of qlora: quantize the scales of blocks as well")
    lora_r: int = Field(16, ge=1, description="rank of the adapter")
    lora_alpha: float = Field(32, gt=0, description="scale of the adapter (alpha / r)")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapter")
    lora_target_modules: TargetModules = Field(
        "all-linear",
        description="which linear layers get an adapter: all, those of attention or of the MLP, or a list of names",
    )
    lora_layers: list[int] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="first and last layer that get an adapter; negative ones count from the end: [-8, -1]",
    )
    lora_init: LoraInit = Field(
        "default",
        description="how the adapter starts: pissa and olora from the weights' main directions (lora only), loftq from "
        "the error of quantization (qlora only), eva from the activations of training rows, gaussian, orthogonal",
    )
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(r)")
    use_dora: bool = Field(False, description="train the magnitudes of the weights apart from their directions")
    loraplus_lr_ratio: float | None = Field(
        None, ge=1, description="LoRA+: how many times faster the second matrices of the adapter learn"
    )
    trainable_tokens: list[Text] | None = Field(
        None, min_length=1, description="tokens of the vocabulary whose embeddings are trained too (tied ones together)"
    )
    micro_batch_size: int = Field(4, ge=1, description="rows per forward pass")
    gradient_accumulation_steps: int = Field(1, ge=1, description="forward passes per optimizer step")
    tokens_per_step: int | None = Field(
        None, ge=1, description="instead of both: as many rows per optimizer step as have about this many tokens"
    )
    num_epochs: float = Field(3, gt=0, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps; overrides num_epochs")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    lr_scheduler: Literal[
        "constant",
        "constant_with_warmup",
        "linear",
        "cosine",
        "cosine_with_min_lr",
        "inverse_sqrt",
        "polynomial",
        "warmup_stable_decay",
    ] = Field("cosine", description="how the learning rate goes on after the warm-up")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="part of the steps in which the learning rate rises")
    min_lr_ratio: float = Field(
        0.1, ge=0, lt=1, description="of cosine_with_min_lr and warmup_stable_decay: the last rate, of the peak one"
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay of the optimizer")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    optimizer: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor"] = Field(
        "adamw_torch", description="the 8-bit and paged ones need a CUDA device"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations: less memory, about a third more time"
    )
    neftune_noise_alpha: float | None = Field(None, gt=0, description="noise on the embeddings while training")
    use_liger: bool = Field(False, description="Liger kernels (CUDA, the package liger-kernel)")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="stop after this many evaluations without a better validation loss"
    )
    keep_best: bool = Field(
        False, description="end with the weights of the best validation loss; early stopping always does"
    )
    max_loss_ratio: float | None = Field(
        10.0, gt=1, description="stop when the loss of a step is this many times the median of the last 20; null never"
    )
    eval_steps: int | None = Field(None, ge=1, description="steps between validation losses; default once per epoch")
    sample_answers: int = Field(
        0, ge=0, description="validation rows whose first question is answered at each evaluation, to read"
    )
    save_steps: int | None = Field(
        None, ge=1, description="steps between checkpoints; default at each evaluation and once a minute"
    )
    save_total_limit: int = Field(1, ge=1, description="checkpoints kept while training")
    logging_steps: int = Field(10, ge=1, description="steps between points of the loss curve")
    report_to: list[Literal["mlflow", "wandb"]] = Field(
        [], description="services told of the curve, by their own packages; TensorBoard's files are always written"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of training; default OMP_NUM_THREADS, else all cores, below 50 M parameters one",
    )
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the arithmetic; auto is float32 on CPU, bfloat16 or float16 on CUDA by capability"
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="dpo, kto: how near the answers stay to the first model's (default 0.1); orpo: weight of the odds "
        "ratio (0.1); grpo: weight of the divergence from the first model (0)",
    )
    dpo_loss: DpoLoss = Field("sigmoid", description="of dpo: which loss")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="of dpo (sigmoid, robust, exo_pair, aot): the share of wrong preferences"
    )
    desirable_weight: float = Field(1.0, gt=0, description="of kto: weight of the good answers")
    undesirable_weight: float = Field(1.0, gt=0, description="of kto: weight of the bad answers")
    rewards: list[Reward] = Field([], description="of grpo: what an answer is rewarded for")
    num_generations: int = Field(4, ge=2, description="of grpo: answers per prompt, compared with each other")
    max_completion_length: int = Field(64, ge=1, description="of grpo: tokens of the longest answer")
    temperature: float = Field(1.0, gt=0, description="of grpo: how freely answers are drawn")
    grpo_loss: Literal["grpo", "bnpo", "dr_grpo"] = Field(
        "grpo", description="of grpo: tokens weigh by their answer, by their micro-batch, or each the same"
    )
    class_weights: ClassWeights | None = Field(
        None, description="of classification: `balanced` against rare labels, or a weight by label; default all 1"
    )
    teacher: Text | None = Field(None, description="of distill: the larger model, as base_model is written")
    distill_kl: Literal["forward", "reverse"] = Field(
        "forward", description="of distill: cover all the teacher says, or only what it is sure of"
    )
    distill_temperature: float = Field(1.0, gt=0, description="of distill: both models' logits are divided by it")
    distill_alpha: float = Field(
        0.0, ge=0, le=1, description="of distill: weight of the rows' own tokens beside the teacher's word on them"
    )
