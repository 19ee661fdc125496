"""What must hold between the keys of `train:`, its phases, and what is made of the result. Called by
`edgeft.recipe.consistency`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeft.errors import RecipeError
from edgeft.recipe.names import HEADS, LABELLED, ONNX_OF_LABELS, SMOOTHED
from edgeft.recipe.schema import Phase, Recipe

_MOVING = ("pissa", "olora")
_SHAPE = (
    "adapter", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_layers", "use_rslora", "use_dora",
    "trainable_tokens", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
)  # fmt: skip
_OF_LORA = ("lora_layers", "use_rslora", "use_dora", "loraplus_lr_ratio", "trainable_tokens", "lora_init")
# Keys that mean something to some objectives only.
_OF: dict[str, tuple[str, ...]] = {
    "beta": ("dpo", "kto", "orpo", "grpo"),
    "dpo_loss": ("dpo",),
    "label_smoothing": ("dpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
    "rewards": ("grpo",),
    "num_generations": ("grpo",),
    "max_completion_length": ("grpo",),
    "temperature": ("grpo",),
    "grpo_loss": ("grpo",),
    "class_weights": ("classification",),
    "teacher": ("distill",),
    "distill_kl": ("distill",),
    "distill_temperature": ("distill",),
    "distill_alpha": ("distill",),
}


def training_faults(recipe: Recipe) -> Iterator[RecipeError]:
    """Every contradiction in the training, each with its place."""
    for index, phase in enumerate(recipe.phases):
        last = index == len(recipe.phases) - 1
        fault = _Place(recipe, "train" if last else f"earlier_phases.{index}")
        yield from _watched(recipe, phase, fault)
        yield from _adapter(phase, fault)
        yield from _objective(phase, fault)
        yield from _chain(recipe.phases, index, fault)
    yield from _shipped(recipe)


class _Place:
    """Makes faults at the keys of one phase."""

    def __init__(self, recipe: Recipe, place: str) -> None:
        self._recipe, self._place = recipe, place

    def __call__(self, key: str, what: str, do: str) -> RecipeError:
        return RecipeError(what, where=self._recipe.location_of(f"{self._place}.{key}"), do=do)


def _watched(recipe: Recipe, phase: Phase, fault: _Place) -> Iterator[RecipeError]:
    data = phase.data or recipe.data
    if data.validation or data.val_set_size is not None:
        return
    for key in ("early_stopping_patience", "eval_steps", "keep_best", "sample_answers"):
        if getattr(phase, key):
            yield fault(key, f"train.{key} needs validation rows", "give data.validation or data.val_set_size")


def _adapter(phase: Phase, fault: _Place) -> Iterator[RecipeError]:
    kind, init = phase.adapter, phase.lora_init
    if kind == "full":
        for key in _OF_LORA:
            if key in phase.model_fields_set and getattr(phase, key) != type(phase).model_fields[key].default:
                yield fault(key, f"full fine-tuning has no adapter for {key}", "leave it out, or write adapter: lora")
        return
    if init in _MOVING and kind == "qlora":
        what = f"{init} takes the main directions out of weights, which must not lie in 4 bits"
        yield fault("lora_init", what, "write adapter: lora, or lora_init: loftq")
    if init == "loftq" and kind == "lora":
        yield fault("lora_init", "loftq starts from the error of a 4-bit base", "write adapter: qlora")
    if phase.use_dora and init in _MOVING:
        yield fault("use_dora", f"a DoRA adapter cannot be written back from {init}", "use one of the two")
    if init == "eva" and phase.objective == "grpo":
        yield fault("lora_init", "eva starts from training texts, which grpo has not", "leave lora_init out")
    if phase.tokens_per_step is not None and "gradient_accumulation_steps" in phase.model_fields_set:
        what = "tokens_per_step and gradient_accumulation_steps contradict each other"
        yield fault("tokens_per_step", what, "keep one of them")


def _objective(phase: Phase, fault: _Place) -> Iterator[RecipeError]:
    name = phase.objective
    for key, objectives in _OF.items():
        if key in phase.model_fields_set and name not in objectives:
            yield fault(key, f"train.{key} means nothing to objective: {name}", f"it is of {', '.join(objectives)}")
    if name in HEADS and phase.sample_answers:
        yield fault("sample_answers", f"{name} trains a head, which writes no answers", "leave it out")
    if name == "dpo" and phase.label_smoothing and phase.dpo_loss not in SMOOTHED:
        what = f"the loss {phase.dpo_loss} knows no label_smoothing"
        yield fault("label_smoothing", what, f"losses that do: {', '.join(SMOOTHED)}")
    if name == "dpo" and phase.dpo_loss == "exo_pair" and not phase.label_smoothing:
        yield fault("dpo_loss", "exo_pair needs a label_smoothing above 0", "write label_smoothing: 1e-3")
    if name in ("dpo", "kto") and phase.beta == 0:
        yield fault("beta", f"{name} needs a beta above 0", "leave it out: the default is 0.1")
    if name == "distill" and phase.teacher is None:
        yield fault("objective", "distill needs a teacher", "write teacher: MODEL under train:")
    if name == "grpo":
        yield from _rewards(phase, fault)
        if phase.beta and (phase.adapter == "full" or phase.lora_init in _MOVING):
            what = "the first model is the base without the adapter, and here there is none"
            yield fault("beta", what, "write beta: 0, or adapter: lora with another lora_init")


def _rewards(phase: Phase, fault: _Place) -> Iterator[RecipeError]:
    if not phase.rewards:
        yield fault("objective", "grpo needs rewards", "write rewards: [{type: exact_match}] under train:")
    for index, reward in enumerate(phase.rewards):
        place, wanted = (
            f"rewards.{index}",
            {"regex": "pattern", "json_schema": "path", "python": "path"}.get(reward.type),
        )
        for key in ("pattern", "path"):
            given = getattr(reward, key) is not None
            if key == wanted and not given:
                yield fault(place, f"the reward {reward.type} needs a {key}", f"write {key}: … beside its type")
            elif given and key != wanted:
                yield fault(f"{place}.{key}", f"the reward {reward.type} has no {key}", "leave it out")
        if reward.type == "python" and not reward.allow_code:
            what = f"{reward.path} would run with all your rights while training"
            yield fault(place, what, "write allow_code: true beside it when you trust it")
        if reward.pattern is not None:
            try:
                re.compile(reward.pattern)
            except re.error as error:
                yield fault(f"{place}.pattern", f"not a regular expression ({error})", "mend it")


def _chain(phases: list[Phase], index: int, fault: _Place) -> Iterator[RecipeError]:
    phase = phases[index]
    if len(phases) == 1:
        if phase.previous != "carry":
            yield fault("previous", "there is no earlier phase", "leave it out")
        if phase.data is not None:
            yield fault("data", "the one phase has the recipe's own rows", "write them in data: of the recipe")
        return
    if phase.name is None:
        yield fault(
            "objective", f"phase {index + 1} of train: has no name", "write name: NAME first: its target is train.NAME"
        )
    elif phase.name in [other.name for other in phases[:index]]:
        yield fault("name", f"two phases are called {phase.name}", "name each differently")
    if index == 0:
        return
    before = phases[index - 1]
    if "full" in (phase.adapter, before.adapter):
        yield fault("adapter", "phases carry adapters on; full fine-tuning has none", "write adapter: lora or qlora")
    if before.objective in ("classification", "reward") or phase.objective in ("classification", "reward"):
        yield fault(
            "objective", "a head for labels or rewards cannot be carried between phases", "make it a recipe of its own"
        )
    if phase.objective == "grpo" and phase.beta:
        yield fault("beta", "grpo's beta compares with the base, not with the phase before", "leave beta out")
    if phase.previous == "carry":
        for key in _SHAPE:
            if getattr(phase, key) != getattr(before, key):
                what = f"the carried adapter has {key}: {getattr(before, key)} of the phase before"
                yield fault(key, what, "give both the same, or write previous: merge")
        if phase.lora_init != "default":
            yield fault("lora_init", "a carried adapter does not start anew", "leave it out, or write previous: merge")
    elif phase.adapter != before.adapter:
        yield fault("adapter", "phases train on one base: both lora or both qlora", "give both the same")
    elif before.use_dora or phase.use_dora:
        yield fault("previous", "DoRA adapters cannot be summed", "write previous: carry, or leave use_dora out")


def _shipped(recipe: Recipe) -> Iterator[RecipeError]:
    """What a later stage cannot carry, before hours are spent."""
    train = recipe.train
    if recipe.has_head:
        do = "the adapter itself opens in peft; leave this out"
        for name in recipe.export:
            if train.objective == LABELLED and name in ONNX_OF_LABELS:
                continue
            what = f"{name} ships a language model; {train.objective} puts a head on it"
            other = f"such a head ships as {', '.join(ONNX_OF_LABELS)}" if train.objective == LABELLED else do
            yield RecipeError(what, where=recipe.location_of(f"export.{name}"), do=other)
        if recipe.merge.merge_base == "auto" and not recipe.merge.write:
            what = f"merge_base: auto compares answers; {train.objective} trains a head, which writes none"
            where = recipe.location_of("merge.merge_base")
            yield RecipeError(what, where=where, do="choose dequantized or pristine, or leave it out")
        if recipe.merge.write:
            what = f"merge: asks a language model; {train.objective} puts a head on it"
            yield RecipeError(what, where=recipe.location_of("merge"), do=do)
    for name in recipe.export:
        if not name.startswith("lora-"):
            continue
        where = recipe.location_of(f"export.{name}")
        if train.use_dora:
            do = "export gguf-… (merged) instead, or leave use_dora out"
            yield RecipeError(f"{name}: llama.cpp's adapters have no DoRA magnitudes", where=where, do=do)
        if train.trainable_tokens:
            do = "export gguf-… (merged) instead, or leave trainable_tokens out"
            yield RecipeError(f"{name}: llama.cpp's adapters have no trained tokens", where=where, do=do)
        if train.adapter == "full":
            yield RecipeError(f"{name}: full fine-tuning has no adapter", where=where, do="export gguf-… instead")
