"""What is trained: an adapter made on an open base, or all weights. Used by `edgeft.training.run`.

Written is what peft reads, the same bytes for the same values (`edgeft.training.written`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.errors import InputError, ModelError
from edgeft.models.heads import HEADS
from edgeft.models.open import open_adapter, quantization_of
from edgeft.models.tokenizer import first_line
from edgeft.training import start
from edgeft.training.arguments import Settings
from edgeft.training.targets import target_modules, token_ids


@dataclass(frozen=True)
class Tuned:
    """A model ready to be trained.

    subtracted  the adapter's first values when they were taken out of the base (PiSSA, OLoRA)
    folded      the folder of an earlier phase's adapter whose change is part of the base now
    """

    model: Any
    subtracted: Mapping[str, Any] = field(default_factory=dict)
    folded: Path | None = None

    @property
    def is_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")


def make(
    model: Any,
    settings: Settings,
    *,
    base: Path,
    tokenizer: Any = None,
    previous: Path | None = None,
    batches: Iterable[Mapping[str, Any]] = (),
) -> Tuned:
    """`model` (as `open_base` gives it) with what is trained made trainable.

    previous  the adapter of the phase before, carried on or (settings.previous "merge") folded in
    batches   of training rows, for EVA
    """
    if settings.adapter == "full":
        model.requires_grad_(True)
        _recompute(model, settings)
        return Tuned(model)
    if previous is not None and settings.previous == "carry":
        tuned = open_adapter(model, previous, trainable=True)
        _recompute(tuned, settings)
        return Tuned(tuned)
    if previous is not None:
        model = _folded(model, previous)
    tuned = _fresh(model, settings, tokenizer)
    subtracted = {}
    if settings.lora_init in start.MOVING:
        subtracted = {name: tensor.detach().cpu().clone() for name, tensor in values(tuned).items() if ".lora_" in name}
    elif settings.lora_init == "loftq":
        start.loftq(tuned, base)
    elif settings.lora_init == "eva":
        start.eva(tuned, batches)
    _recompute(tuned, settings)
    return Tuned(tuned, subtracted, previous)


def values(model: Any) -> dict[str, Any]:
    """What is trained, by name: an adapter's tensors, or all weights."""
    if not hasattr(model, "peft_config"):
        return dict(model.state_dict())
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(model))


def put(model: Any, tensors: Mapping[str, Any]) -> None:
    """The reverse of `values`."""
    if not hasattr(model, "peft_config"):
        model.load_state_dict(tensors)
        return
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, dict(tensors))


def _fresh(model: Any, settings: Settings, tokenizer: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    alpha = settings.lora_alpha
    tokens = token_ids(tokenizer, settings.trainable_tokens) if settings.trainable_tokens else None
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=target_modules(model, settings.lora_target_modules, settings.lora_layers),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=start.peft_name(settings.lora_init),
        trainable_token_indices={"embed_tokens": tokens} if tokens else None,
        # peft itself saves what is called score or classifier
        modules_to_save=[name for name in getattr(model, "edgeft_started", ()) if name not in HEADS] or None,
        task_type="SEQ_CLS" if hasattr(model, "edgeft_labels") else "CAUSAL_LM",
    )
    if tokens:
        config.trainable_token_indices = {_embeddings(model): tokens}
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if isinstance(settings.lora_target_modules, str):
            raise
        names = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "weight")})
        raise ModelError(
            f"lora_target_modules do not fit the base model ({first_line(error)})", do=f"it has: {', '.join(names)}"
        ) from None


def _embeddings(model: Any) -> str:
    """The name of the module that holds the input embeddings."""
    wanted = model.get_input_embeddings()
    return next(name for name, module in model.named_modules() if module is wanted).rpartition(".")[2]


def _folded(model: Any, previous: Path) -> Any:
    """The base with an earlier adapter's change in its weights, in memory."""
    if _is_packed(model):
        raise InputError(
            "an adapter cannot be folded into weights that lie in 4 bits", do="write previous: carry, or adapter: lora"
        )
    how = quantization_of(model)
    merged = open_adapter(model, previous).merge_and_unload()
    merged.edgeft_quantization = how
    return merged.requires_grad_(False)


def _is_packed(model: Any) -> bool:
    return any(getattr(parameter, "quant_state", None) is not None for parameter in model.parameters())


def _recompute(model: Any, settings: Settings) -> None:
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
