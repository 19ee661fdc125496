"""Train an adapter: the whole way from a tokenized dataset and a base model to the adapter's files. Called by the
`train` stage.

Killed at any moment and run again with the same scratch folder, it goes on from the last checkpoint and ends with the
same bytes as an undisturbed run: batches come from a plan made before the first step, checkpoints hold weights,
optimizer, schedule, random states and history, and nothing else decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data.store import Tokens, read_tokens
from edgeft.errors import InputError
from edgeft.models.identity import base_digest
from edgeft.models.open import open_base, pick_device, pick_dtype, quantization_of
from edgeft.models.quiet import quiet
from edgeft.progress import Listener, silent
from edgeft.registry import lookup
from edgeft.training import checkpoints
from edgeft.training.adapter import add_lora, write_adapter
from edgeft.training.arguments import Settings, training_arguments
from edgeft.training.batches import Collator, Plan, evaluation_batches, make_plan
from edgeft.training.machine import choose_threads, peak_memory, steady
from edgeft.training.objectives import OBJECTIVES
from edgeft.training.packed import packs_exactly
from edgeft.training.watch import Schedule, Watch, best_step, curve, is_patience_over, losses

CURVE, SPEED = "curve.jsonl", "speed.json"


@dataclass(frozen=True)
class Job:
    """What is trained on what, and where the files go."""

    base: Path
    base_ref: str  # how the recipe names the base
    dataset: Path  # a dataset artifact's folder
    folder: Path
    scratch: Path
    settings: Settings
    device: str = "auto"
    listen: Listener = silent
    warn: Callable[[str], None] = lambda message: None


@dataclass(frozen=True)
class Result:
    """What came out, besides the files in the job's folder."""

    facts: Mapping[str, Any]
    measurements: Mapping[str, Any]


def train(job: Job) -> Result:
    """Train and write adapter_model.safetensors, adapter_config.json, training.json, curve.jsonl, speed.json and a
    card.

    `EdgeftError` when the loss is no number any more; `ModelError` for a base that cannot be opened; `StorageError`
    when a checkpoint cannot be written; `MissingError` for hardware that is not there.
    """
    settings, stats = job.settings, files.read_json(job.dataset / "stats.json")
    device = pick_device(job.device)
    dtype = pick_dtype(settings.compute_dtype, device)
    tokens = read_tokens(job.dataset / "train.parquet")
    validation = job.dataset / "validation.parquet"
    held_out = read_tokens(validation) if validation.is_file() else None
    _check(settings, held_out)
    objective = lookup(OBJECTIVES, settings.objective, "objective").load()
    started = time.monotonic()
    model = open_base(job.base, four_bit=settings.adapter == "qlora", device=device, dtype=dtype)
    how = quantization_of(model)
    plan = _plan(job, model, tokens, stats)
    arguments = training_arguments(settings, steps=plan.steps, device=device, dtype=dtype, output=job.scratch)
    threads = choose_threads(settings.threads, model.num_parameters())
    with steady(threads, settings.seed), quiet():
        objective.prepare(model)
        model = _adapted(model, settings)
        trained = _run(job, plan, model, objective, arguments, tokens, held_out, device)
        model.eval()
    training = {
        "base": {"ref": job.base_ref, "digest": base_digest(job.base)},
        "objective": settings.objective,
        "quantization": how.table() if how else None,
        "compute_dtype": dtype,
        "device": device,
        "settings": _recorded(settings),
        "steps": trained.steps,
        "planned_steps": plan.steps,
        "best_step": best_step(trained.history),
        **_of_the_data(stats),
    }
    write_adapter(job.folder, model, base_ref=job.base_ref, training=training)
    rows = curve(trained.history, settings.logging_steps)
    files.write_jsonl(job.folder / CURVE, rows)
    measurements = {
        "seconds": round(time.monotonic() - started, 3),
        **_speed(trained),
        "threads": threads,
        **peak_memory(),
    }
    files.write_json(job.folder / SPEED, measurements)
    return Result(_facts(training, rows, trained.history), measurements)


@dataclass(frozen=True)
class Trained:
    """How the loop went: its history over all of its lives, and this life's speed."""

    history: list[dict[str, Any]]
    steps: int
    seconds: float
    tokens: int
    learnt: int
    resumed: int


def _of_the_data(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What training.json keeps of the dataset: its size, and what everything that opens the adapter needs of it."""
    figures = stats["splits"]["train"]
    kept = ("rows", "tokens", "trained_tokens", "tokens_by_role", "tokenized_in_pieces")
    return {
        "data": {key: figures[key] for key in kept},
        "stop_ids": stats["stop_ids"],
        "end_of_turn_ids": stats["end_of_turn_ids"],
        "chat_template": stats["chat_template"],
    }


def _speed(trained: Trained) -> dict[str, Any]:
    seconds = trained.seconds
    return {
        "training_seconds": round(seconds, 3),
        "tokens_per_second": round(trained.tokens / seconds, 1) if seconds else None,
        "trained_tokens_per_second": round(trained.learnt / seconds, 1) if seconds else None,
        "resumed_from_step": trained.resumed,
    }


def _check(settings: Settings, held_out: Tokens | None) -> None:
    if settings.early_stopping_patience and held_out is None:
        raise InputError(
            "early_stopping_patience needs validation rows", do="give data.validation or data.val_set_size"
        )


def _plan(job: Job, model: Any, tokens: Tokens, stats: Mapping[str, Any]) -> Plan:
    settings, length = job.settings, int(stats["sequence_len"])
    packs = bool(stats["sample_packing"]) and packs_exactly(model)
    budget = settings.micro_batch_size * length if stats["sample_packing"] and not packs else None
    if budget is not None:
        job.warn(
            "this model lets rows in one sequence see each other, so they are not packed: batches of rows of like "
            f"length, up to {budget} tokens each"
        )
    return make_plan(
        tokens.lengths,
        micro_batch_size=settings.micro_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        epochs=settings.num_epochs,
        max_steps=settings.max_steps,
        seed=settings.seed,
        pack_into=length if packs else None,
        token_budget=budget,
    )


def _adapted(model: Any, settings: Settings) -> Any:
    tuned = add_lora(
        model,
        r=settings.lora_r,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        targets=settings.lora_target_modules,
    )
    if settings.gradient_checkpointing:
        tuned.enable_input_require_grads()
        tuned.gradient_checkpointing_enable({"use_reentrant": False})
    return tuned


def _run(
    job: Job,
    plan: Plan,
    model: Any,
    objective: Any,
    arguments: Any,
    tokens: Tokens,
    held_out: Tokens | None,
    device: str,
) -> Trained:
    """The loop, from the last checkpoint if there is one."""
    from edgeft.training.trainer import Task, make_trainer

    settings = job.settings
    collator = Collator(tokens, plan.batches, _pad_id(model))
    per_step = _tokens_per_step(collator, plan.accumulation)
    watch = Watch(
        Schedule(
            steps=plan.steps,
            evaluate_at=_evaluations(settings, plan),
            save_every=settings.save_steps,
            patience=settings.early_stopping_patience,
            tokens=[0, *accumulate(step[0] for step in per_step)],
        ),
        listen=job.listen,
        learning_rate=settings.learning_rate,
    )
    what = {"settings": _recorded(settings), "batches": plan.batches, "base": base_digest(job.base)}
    digest = files.digest_text(files.canonical_json(what))
    held = _validation(settings, held_out, _pad_id(model))
    trainer = make_trainer(Task(model, objective, collator, held, watch, job.scratch, digest, device), arguments)
    begun = time.monotonic()
    first = _walk(trainer, checkpoints.latest(job.scratch, digest), settings.early_stopping_patience)
    if settings.early_stopping_patience:
        trainer.best.put_back()
    done = per_step[first : trainer.state.global_step]
    return Trained(
        history=trainer.state.log_history,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - begun,
        tokens=sum(step[0] for step in done),
        learnt=sum(step[1] for step in done),
        resumed=first,
    )


def _walk(trainer: Any, checkpoint: Path | None, patience: int | None) -> int:
    """Train to the end, from a checkpoint if there is one; the step begun from."""
    if checkpoint is None:
        trainer.train()
        return 0
    state = files.read_json(checkpoint / "trainer_state.json")
    trainer.best.load(checkpoint)
    if is_patience_over(state["log_history"], patience):
        trainer._load_from_checkpoint(str(checkpoint))  # it had stopped before it was killed
        trainer.state.log_history, trainer.state.global_step = state["log_history"], int(state["global_step"])
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    return int(state["global_step"])


def _tokens_per_step(collator: Collator, accumulation: int) -> list[tuple[int, int]]:
    """(tokens, trained tokens) of each optimizer step."""
    counts = [collator.counts(index) for index in range(len(collator))]
    steps = [counts[at : at + accumulation] for at in range(0, len(counts), accumulation)]
    return [(sum(tokens for tokens, _ in step), sum(learnt for _, learnt in step)) for step in steps]


def _evaluations(settings: Settings, plan: Plan) -> frozenset[int]:
    """The steps after which the validation loss is taken; the last one always."""
    if settings.eval_steps is None:
        return frozenset(plan.epoch_steps)
    return frozenset({*range(settings.eval_steps, plan.steps, settings.eval_steps), plan.steps})


def _validation(settings: Settings, held_out: Tokens | None, pad_id: int) -> Collator | None:
    if held_out is None:
        return None
    longest = max(held_out.lengths)
    return Collator(held_out, evaluation_batches(held_out.lengths, 2 * settings.micro_batch_size * longest), pad_id)


def _pad_id(model: Any) -> int:
    """What stands behind shorter rows; no token sees it, so that any id will do."""
    pad = model.config.get_text_config().pad_token_id
    return int(pad) if isinstance(pad, int) and pad >= 0 else 0


def _recorded(settings: Settings) -> dict[str, Any]:
    """The settings that the result depends on, as training.json keeps them."""
    skipped = {"threads", "save_steps"}
    return {key: value for key, value in asdict(settings).items() if key not in skipped}


def _facts(training: Mapping[str, Any], rows: list[dict[str, Any]], history: list[dict[str, Any]]) -> dict[str, Any]:
    points = [row for row in rows if "loss" in row]
    evaluations = losses(history)
    return {
        "base": training["base"]["ref"],
        "steps": training["steps"],
        "loss": points[-1]["loss"] if points else None,
        "eval_loss": float(f"{evaluations[-1][1]:.7g}") if evaluations else None,
        "best_eval_loss": float(f"{min(loss for _, loss in evaluations):.7g}") if evaluations else None,
        "stop_ids": training["stop_ids"],
        "quantized": bool(training["quantization"]),
        "compute_dtype": training["compute_dtype"],
    }
