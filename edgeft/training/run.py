"""Train: the whole way from a tokenized dataset and a base model to the files of what was trained. Called by the
`train` stage.

Killed at any moment and run again with the same scratch folder, it goes on from the last checkpoint and ends with the
same bytes as an undisturbed run: batches come from a plan made before the first step, checkpoints hold weights,
optimizer, schedule, random states and history, and nothing else decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import InputError
from edgeft.models.identity import base_digest
from edgeft.models.open import open_base, pick_device, pick_dtype, quantization_of
from edgeft.models.quiet import quiet
from edgeft.models.tokenizer import load_tokenizer
from edgeft.progress import Listener, silent
from edgeft.registry import lookup
from edgeft.training import checkpoints, forms, results, written
from edgeft.training.adapter import Tuned, make
from edgeft.training.arguments import Settings, check_services, training_arguments
from edgeft.training.batches import Batches, Plan, evaluation_batches, make_plan
from edgeft.training.board import Board, keep_board
from edgeft.training.machine import choose_threads, is_out_of_memory, peak_memory, release_memory, steady
from edgeft.training.objectives import OBJECTIVES, ROWS, Bound, Context
from edgeft.training.packed import packs_exactly
from edgeft.training.watch import Schedule, Watch, best_step, curve, is_patience_over, overfitting

CURVE, SPEED = "curve.jsonl", "speed.json"
HEADS = ("classification", "reward")


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
    previous: Path | None = None  # the adapter of the phase before
    files: Mapping[str, Path] = field(default_factory=dict)  # "teacher", "rewards.N"


@dataclass(frozen=True)
class Result:
    """What came out, besides the files in the job's folder."""

    facts: Mapping[str, Any]
    measurements: Mapping[str, Any]


@dataclass(frozen=True)
class Opened:
    """Everything that a run needs before its first step."""

    plan: Plan
    tuned: Tuned
    objective: Bound
    train: forms.Rows
    validation: forms.Rows | None
    device: str
    dtype: str
    pieces: int  # a micro-batch is cut into so many (more than one after memory ran out)


@dataclass(frozen=True)
class Trained:
    """How the loop went: its history over all of its lives, and this life's speed."""

    history: list[dict[str, Any]]
    steps: int
    seconds: float
    tokens: int
    learnt: int
    resumed: int
    judged: Mapping[str, Any]


def train(job: Job) -> Result:
    """Train and write the adapter (or model), training.json, curve.jsonl, speed.json, a card; for objectives that judge
    rows heldout.jsonl, with `sample_answers` samples.jsonl; TensorBoard's files.

    `EdgeftError` when the loss is no number any more or jumps; `ModelError` for a base that cannot be opened;
    `StorageError` when a checkpoint cannot be written; `MissingError` for hardware that is not there. When the device
    runs out of memory, the run goes on from its last checkpoint with half as many rows at a time.
    """
    pieces = 1
    while True:
        try:
            return _attempt(job, pieces)
        except Exception as error:
            if not is_out_of_memory(error) or 2 * pieces > _most_pieces(job.settings):
                raise
            pieces *= 2
        release_memory()
        rows = max(1, job.settings.micro_batch_size // pieces)
        job.warn(
            f"the device ran out of memory: going on with {rows} rows at a time and {pieces} times the accumulation; "
            "the effective batch stays the same"
        )


def _most_pieces(settings: Settings) -> int:
    return settings.micro_batch_size


def _attempt(job: Job, pieces: int) -> Result:
    settings, stats = job.settings, files.read_json(job.dataset / "stats.json")
    device = pick_device(job.device)
    dtype = pick_dtype(settings.compute_dtype, device)
    check_services(settings, device)
    started = time.monotonic()
    labels = _labels(job)
    model = open_base(
        job.base,
        four_bit=settings.adapter == "qlora",
        device=device,
        dtype="float32" if settings.adapter == "full" else dtype,
        quant_type=settings.bnb_4bit_quant_type,
        double_quant=settings.bnb_4bit_use_double_quant,
        labels=labels,
    )
    how = quantization_of(model)
    threads = choose_threads(settings.threads, model.num_parameters())
    with steady(threads, settings.seed), quiet():
        opened = _open(job, model, stats, device, dtype, labels or (), pieces)
        trained = _run(job, opened)
        opened.tuned.model.eval()
    training = {
        "base": {"ref": job.base_ref, "digest": base_digest(job.base)},
        "objective": settings.objective,
        "quantization": how.table() if how else None,
        "compute_dtype": dtype,
        "device": device,
        "settings": recorded(settings),
        "steps": trained.steps,
        "planned_steps": opened.plan.steps,
        "best_step": best_step(trained.history),
        **({"labels": list(labels)} if labels else {}),
        **results.of_the_data(stats),
    }
    written.write(job.folder, opened.tuned, base_ref=job.base_ref, base=job.base, training=training)
    rows = curve(trained.history, settings.logging_steps)
    files.write_jsonl(job.folder / CURVE, rows)
    keep_board(job.scratch, job.folder)
    results.write_more(job.folder, trained.history, trained.judged)
    said = overfitting(trained.history) if not settings.takes_best else None
    if said:
        job.warn(said)
    measurements = {
        "seconds": round(time.monotonic() - started, 3),
        **results.speed(trained),
        "threads": threads,
        "rows_at_a_time": max(1, settings.micro_batch_size // pieces),
        **peak_memory(),
    }
    files.write_json(job.folder / SPEED, measurements)
    return Result(results.facts(training, rows, trained.history, trained.judged), measurements)


def _open(
    job: Job, model: Any, stats: Mapping[str, Any], device: str, dtype: str, labels: tuple[str, ...], pieces: int
) -> Opened:
    """Rows, plan, what is trained, and the objective bound to them."""
    settings = job.settings
    pad_id = _pad_id(model)
    form = ROWS[settings.objective]
    _check_form(job, form, stats)
    rows = forms.read(form, job.dataset / "train.parquet", pad_id)
    held = job.dataset / "validation.parquet"
    validation = forms.read(form, held, pad_id) if held.is_file() else None
    _check_watched(settings, validation)
    plan = _plan(job, model, rows, stats)
    if settings.objective not in HEADS:
        from edgeft.training.objectives.likelihood import prepare

        prepare(model)
    tokenizer = load_tokenizer(job.base) if settings.trainable_tokens else None
    train_batches = Batches(rows, plan.batches)
    tuned = make(
        model,
        settings,
        base=job.base,
        tokenizer=tokenizer,
        previous=job.previous,
        batches=(part for index in range(len(train_batches)) for part in train_batches[index]),
    )
    context = Context(
        settings=settings,
        model=tuned.model,
        train=rows,
        validation=validation,
        base=job.base,
        stop_ids=tuple(stats["stop_ids"]),
        labels=labels,
        chat_template=stats.get("chat_template"),
        files=job.files,
        device=device,
        dtype=dtype,
    )
    objective = lookup(OBJECTIVES, settings.objective, "objective").load().bind(context)
    return Opened(plan, tuned, objective, rows, validation, device, dtype, pieces)


def _labels(job: Job) -> tuple[str, ...] | None:
    """The labels of the head that the objective needs; None when it needs none."""
    if job.settings.objective == "reward":
        return ("reward",)
    if job.settings.objective != "classification":
        return None
    path = job.dataset / "labels.json"
    if not path.is_file():
        raise InputError("the dataset has no labels.json", where=path, do="give data of the type classification")
    found = files.read_json(path)
    return tuple(found["labels"] if isinstance(found, dict) else found)


def _check_form(job: Job, form: str, stats: Mapping[str, Any]) -> None:
    given = stats.get("rows_form", "language")
    if given != form:
        raise InputError(
            f"objective {job.settings.objective} learns from {form} rows, the dataset has {given} rows",
            where=job.dataset,
        )


def _check_watched(settings: Settings, validation: forms.Rows | None) -> None:
    for key in ("early_stopping_patience", "keep_best", "sample_answers"):
        if getattr(settings, key) and validation is None:
            raise InputError(f"{key} needs validation rows", do="give data.validation or data.val_set_size")


def _plan(job: Job, model: Any, rows: forms.Rows, stats: Mapping[str, Any]) -> Plan:
    settings, length = job.settings, int(stats["sequence_len"])
    wanted = bool(stats.get("sample_packing")) and ROWS[settings.objective] == "language"
    packs = wanted and packs_exactly(model)
    budget = settings.micro_batch_size * length if wanted and not packs else None
    if budget is not None:
        job.warn(
            "this model lets rows in one sequence see each other, so they are not packed: batches of rows of like "
            f"length, up to {budget} tokens each"
        )
    return make_plan(
        rows.lengths,
        micro_batch_size=settings.micro_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        epochs=settings.num_epochs,
        max_steps=settings.max_steps,
        seed=settings.seed,
        pack_into=length if packs else None,
        tokens_per_step=settings.tokens_per_step,
        token_budget=budget,
    )


def _run(job: Job, opened: Opened) -> Trained:
    """The loop, from the last checkpoint if there is one."""
    from edgeft.training.trainer import Task, judge_rows, make_trainer

    settings, plan = job.settings, opened.plan
    most = None
    if settings.tokens_per_step or opened.pieces > 1:
        most = max(1, settings.micro_batch_size // opened.pieces)
    batches = Batches(opened.train, plan.batches, most)
    per_step = _tokens_per_step(batches, plan.accumulation)
    digest = _digest(job, plan)
    board = Board(job.scratch)
    watch = Watch(
        Schedule(
            steps=plan.steps,
            evaluate_at=_evaluations(settings, plan),
            save_every=settings.save_steps,
            patience=settings.early_stopping_patience,
            spike=None if settings.objective == "grpo" else settings.max_loss_ratio,
            tokens=[0, *accumulate(step[0] for step in per_step)],
        ),
        listen=job.listen,
        learning_rate=settings.learning_rate,
    )
    arguments = training_arguments(
        settings, steps=plan.steps, device=opened.device, dtype=opened.dtype, output=job.scratch
    )
    held = _validation(settings, opened.validation, max(1, settings.micro_batch_size // opened.pieces))
    task = Task(
        opened.tuned.model, opened.objective, batches, held, watch, job.scratch, digest, opened.device, settings, board,
        results.sampler(job, opened.tuned.model, opened.device) if settings.sample_answers else None,
    )  # fmt: skip
    trainer = make_trainer(task, arguments)
    before = judge_rows(trainer, task)
    begun = time.monotonic()
    first = _walk(trainer, checkpoints.latest(job.scratch, digest), watch, settings.early_stopping_patience)
    seconds = time.monotonic() - begun
    if settings.takes_best:
        trainer.best.put_back()
    board.close()
    done = per_step[first : trainer.state.global_step]
    return Trained(
        history=trainer.state.log_history,
        steps=trainer.state.global_step,
        seconds=seconds,
        tokens=sum(step[0] for step in done),
        learnt=sum(step[1] for step in done),
        resumed=first,
        judged=results.compared(before, judge_rows(trainer, task)),
    )


def _digest(job: Job, plan: Plan) -> str:
    """Of everything that the result depends on: a checkpoint of something else is not gone on with."""
    what: dict[str, Any] = {"settings": recorded(job.settings), "batches": plan.batches, "base": base_digest(job.base)}
    if job.previous is not None:
        what["previous"] = files.digest_file(job.previous / "adapter_model.safetensors")
    return files.digest_text(files.canonical_json(what))


def _walk(trainer: Any, checkpoint: Path | None, watch: Watch, patience: int | None) -> int:
    """Train to the end, from a checkpoint if there is one; the step begun from."""
    if checkpoint is None:
        trainer.train()
        return 0
    state = files.read_json(checkpoint / "trainer_state.json")
    trainer.best.load(checkpoint)
    watch.saved_step = int(state["global_step"])
    if is_patience_over(state["log_history"], patience):
        trainer._load_from_checkpoint(str(checkpoint))  # it had stopped before it was killed
        trainer.state.log_history, trainer.state.global_step = state["log_history"], int(state["global_step"])
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    return int(state["global_step"])


def _tokens_per_step(batches: Batches, accumulation: int) -> list[tuple[int, int]]:
    """(tokens, trained tokens) of each optimizer step."""
    counts = [batches.counts(index) for index in range(len(batches))]
    steps = [counts[at : at + accumulation] for at in range(0, len(counts), accumulation)]
    return [(sum(tokens for tokens, _ in step), sum(learnt for _, learnt in step)) for step in steps]


def _evaluations(settings: Settings, plan: Plan) -> frozenset[int]:
    """The steps after which the validation loss is taken; the last one always."""
    if settings.eval_steps is None:
        return frozenset(plan.epoch_steps)
    return frozenset({*range(settings.eval_steps, plan.steps, settings.eval_steps), plan.steps})


def _validation(settings: Settings, held_out: forms.Rows | None, rows: int) -> Batches | None:
    if held_out is None:
        return None
    return Batches(held_out, evaluation_batches(held_out.lengths, 2 * rows * max(held_out.lengths)))


def _pad_id(model: Any) -> int:
    """What stands behind shorter rows; no token sees it, so that any id will do."""
    pad = model.config.get_text_config().pad_token_id
    return int(pad) if isinstance(pad, int) and pad >= 0 else 0


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings that the result depends on, as training.json keeps them."""
    skipped = {"threads", "save_steps", "save_total_limit", "report_to"}
    return {key: value for key, value in asdict(settings).items() if key not in skipped}


__all__ = ["CURVE", "SPEED", "Job", "Result", "train"]
