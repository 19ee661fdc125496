"""Every section of the schema by its place in a recipe, and hints for keys that are not in it.

Used by `edgeft.recipe.load` ("did you mean") and by tools/docs that list the keys.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from edgeft.recipe.schema import Recipe

# Keys of Axolotl, Unsloth, LLaMA-Factory, TRL, transformers and peft -> where edgeft has them, or advice (with spaces).
ALIASES: dict[str, str] = {
    # the model
    "model": "base_model",
    "model_name": "base_model",
    "model_id": "base_model",
    "model_name_or_path": "base_model",
    "pretrained_model_name_or_path": "base_model",
    "tokenizer_config": "the tokenizer always is the base model's: leave this out",
    "random_seed": "seed",
    "random_state": "seed",
    "data_seed": "seed",
    # the data
    "dataset": "data.datasets",
    "dataset_name": "data.datasets",
    "dataset_path": "data.datasets",
    "train_file": "data.datasets",
    "train_dataset": "data.datasets",
    "train_data": "data.datasets",
    "eval_dataset": "data.validation",
    "validation_file": "data.validation",
    "val_dataset": "data.validation",
    "test_datasets": "data.test",
    "test_file": "data.test",
    "val_size": "data.val_set_size",
    "validation_split": "data.val_set_size",
    "eval_size": "data.val_set_size",
    "test_size": "data.test_set_size",
    "max_seq_length": "data.sequence_len",
    "max_seq_len": "data.sequence_len",
    "max_length": "data.sequence_len",
    "seq_len": "data.sequence_len",
    "seq_length": "data.sequence_len",
    "cutoff_len": "data.sequence_len",
    "block_size": "data.sequence_len",
    "model_max_length": "data.sequence_len",
    "template": "data.chat_template",
    "packing": "data.sample_packing",
    "pad_to_sequence_len": "rows are padded to the longest of their batch: leave this out",
    "train_on_inputs": "name the roles in data.roles_to_train",
    "train_on_prompt": "name the roles in data.roles_to_train",
    "mask_history": "name the roles in data.roles_to_train",
    "assistant_only_loss": "only assistant turns are learnt unless data.roles_to_train says otherwise: leave this out",
    "completion_only_loss": "only assistant turns are learnt unless data.roles_to_train says otherwise: leave this out",
    "format": "data.datasets.*.type",
    "formatting": "data.datasets.*.type",
    "ds_type": "data.datasets.*.type",
    "file": "data.datasets.*.path",
    "data_files": "data.datasets.*.path",
    # the adapter
    "finetuning_type": "train.adapter",
    "peft_type": "train.adapter",
    "load_in_4bit": "write adapter: qlora in the section train",
    "quantization_bit": "write adapter: qlora in the section train",
    "load_in_8bit": "there is no 8-bit training: write adapter: qlora or adapter: lora in the section train",
    "quant_type": "train.bnb_4bit_quant_type",
    "double_quant": "train.bnb_4bit_use_double_quant",
    "init_lora_weights": "train.lora_init",
    "peft_use_dora": "train.use_dora",
    "peft_use_rslora": "train.use_rslora",
    "layers_to_transform": "train.lora_layers",
    "peft_layers_to_transform": "train.lora_layers",
    "loraplus_lr_embedding": "leave this out",
    "bnb_4bit_compute_dtype": "train.compute_dtype",
    "r": "train.lora_r",
    "rank": "train.lora_r",
    "lora_rank": "train.lora_r",
    "alpha": "train.lora_alpha",
    "dropout": "train.lora_dropout",
    "target_modules": "train.lora_target_modules",
    "lora_target": "train.lora_target_modules",
    "lora_target_linear": "train.lora_target_modules",
    # the training
    "lr": "train.learning_rate",
    "batch_size": "train.micro_batch_size",
    "per_device_train_batch_size": "train.micro_batch_size",
    "train_batch_size": "train.micro_batch_size",
    "per_gpu_train_batch_size": "train.micro_batch_size",
    "gradient_accumulation": "train.gradient_accumulation_steps",
    "grad_accum": "train.gradient_accumulation_steps",
    "accumulate_grad_batches": "train.gradient_accumulation_steps",
    "epochs": "train.num_epochs",
    "num_train_epochs": "train.num_epochs",
    "max_epochs": "train.num_epochs",
    "steps": "train.max_steps",
    "max_train_steps": "train.max_steps",
    "lr_scheduler_type": "train.lr_scheduler",
    "scheduler": "train.lr_scheduler",
    "warmup": "train.warmup_ratio",
    "warmup_steps": "train.warmup_ratio",
    "optim": "train.optimizer",
    "max_gradient_norm": "train.max_grad_norm",
    "gradient_clipping": "train.max_grad_norm",
    "clip_grad_norm": "train.max_grad_norm",
    "activation_checkpointing": "train.gradient_checkpointing",
    "use_gradient_checkpointing": "train.gradient_checkpointing",
    "noise_alpha": "train.neftune_noise_alpha",
    "patience": "train.early_stopping_patience",
    "evals_per_epoch": "train.eval_steps",
    "eval_strategy": "train.eval_steps",
    "evaluation_strategy": "train.eval_steps",
    "saves_per_epoch": "train.save_steps",
    "save_strategy": "train.save_steps",
    "log_steps": "train.logging_steps",
    "num_threads": "train.threads",
    "bf16": "train.compute_dtype",
    "fp16": "train.compute_dtype",
    "dtype": "train.compute_dtype",
    "torch_dtype": "train.compute_dtype",
    "output_dir": "results lie in build/, beside the recipe's .edgeft: leave this out",
    "rl": "train.objective",
    "stage": "train.objective",
    "task": "train.objective",
    "dpo_beta": "train.beta",
    "pref_beta": "train.beta",
    "kto_beta": "train.beta",
    "loss_type": "train.dpo_loss",
    "dpo_label_smoothing": "train.label_smoothing",
    "reward_funcs": "train.rewards",
    "num_completions": "train.num_generations",
    "max_completion_tokens": "train.max_completion_length",
    "teacher_model": "train.teacher",
    "load_best_model_at_end": "train.keep_best",
    "use_liger_kernel": "train.use_liger",
    # judging and shipping
    "metric": "eval.suites.*.metrics",
    "max_new_tokens": "eval.suites.*.max_tokens",
    "gates": "gate",
    "exports": "export",
    "quantization_method": "export",
    "gguf": "write its name in export, such as gguf-q4_k_m",
    "onnx": "write its name in export, such as onnx-int4",
    "merge_and_unload": "merge.write",
    "save_merged": "merge.write",
}


@functools.cache
def sections() -> dict[str, type[BaseModel]]:
    """Pattern of a section's place ("" for the recipe, "data.datasets.*", "eval.suites.*") -> its model."""
    return dict(_walk("", Recipe))


def _walk(place: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield place, model
    for name, info in model.model_fields.items():
        below = f"{place}.{name}" if place else name
        for inner, many in _models(info.annotation):
            yield from _walk(f"{below}.*" if many else below, inner)


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The section models inside a field's type, and whether it holds many of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
        return
    many = getattr(annotation, "__origin__", None) in (list, dict)
    for argument in get_args(annotation):
        for model, deeper in _models(argument):
            yield model, many or deeper


def pattern(path: tuple[str | int, ...]) -> str | None:
    """The section that a path such as ("data", "datasets", 0) stands for; None when it is no section."""
    found = ""
    for part in path:
        found = next((f"{found}.{key}".lstrip(".") for key in (str(part), "*") if _is_prefix(found, key)), "?")
    return found if found in sections() else None


def _is_prefix(place: str, key: str) -> bool:
    wanted = f"{place}.{key}".lstrip(".")
    return any(name == wanted or name.startswith(wanted + ".") for name in sections())


def every_key() -> dict[str, str]:
    """Each key's full place ("train.lora_r") -> its description."""
    return {
        f"{place}.{name}".lstrip("."): info.description or ""
        for place, model in sections().items()
        for name, info in model.model_fields.items()
    }


def hint(section: str, key: str) -> str:
    """What to do about an unknown key of a section (a pattern as `sections` has them)."""
    alias = ALIASES.get(key.lower().replace("-", "_"))
    if alias is not None:
        return alias if " " in alias else _meant(section, alias, key)
    own = list(sections()[section].model_fields)
    places = [place for place in every_key() if place.rpartition(".")[2] == key]
    if places:
        return _meant(section, places[0], key)
    near = difflib.get_close_matches(key, own, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0]!r}?"
    everywhere = {place.rpartition(".")[2]: place for place in reversed(every_key())}
    near = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.9)
    if near:
        return _meant(section, everywhere[near[0]], key)
    return f"known here: {', '.join(own)}" if own else "there is nothing to set here"


def _meant(section: str, place: str, key: str) -> str:
    home, _, name = place.rpartition(".")
    if home == section:
        return f"did you mean {name!r}?"
    if not home:
        where = "at the top of the recipe"
    elif home.endswith(".*"):
        where = f"in an entry of {home.removesuffix('.*')}"
    else:
        where = f"in the section {home}"
    return f"it belongs {where}" if name == key else f"did you mean {name!r}, {where}"
