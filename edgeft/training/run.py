"""Train: the whole way from a tokenized dataset and a base model to the files of what was trained. Called by the
`train` stage.

Killed at any moment and run again with the same scratch folder, it goes on from the last checkpoint and ends with the
same bytes as an undisturbed run: batches come from a plan made before the first step, checkpoints hold weights,
optimizer, schedule, random states and history, and nothing else decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.models.identity import base_digest
from edgeft.training import checkpoints, results, written
from edgeft.training.arguments import Settings, training_arguments
from edgeft.training.batches import Batches, Plan
from edgeft.training.board import Board, keep_board
from edgeft.training.machine import is_out_of_memory, peak_memory, release_memory
from edgeft.training.opened import Job, Opened, opened
from edgeft.training.watch import Schedule, Watch, best_step, curve, is_patience_over, overfitting

CURVE, SPEED = "curve.jsonl", "speed.json"


@dataclass(frozen=True)
class Result:
    """What came out, besides the files in the job's folder."""

    facts: Mapping[str, Any]
    measurements: Mapping[str, Any]


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
            if not is_out_of_memory(error) or 2 * pieces > job.settings.micro_batch_size:
                raise
            pieces *= 2
        release_memory()
        rows = max(1, job.settings.micro_batch_size // pieces)
        job.warn(
            f"the device ran out of memory: going on with {rows} rows at a time and {pieces} times the accumulation; "
            "the effective batch stays the same"
        )


def _attempt(job: Job, pieces: int) -> Result:
    settings, started = job.settings, time.monotonic()
    with opened(job, pieces) as made:
        trained = _run(job, made)
        made.tuned.model.eval()
    training = _record(job, made, trained)
    written.write(job.folder, made.tuned, base_ref=job.base_ref, base=job.base, training=training)
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
        "threads": made.threads,
        "rows_at_a_time": made.rows_at_a_time,
        **peak_memory(),
    }
    files.write_json(job.folder / SPEED, measurements)
    return Result(results.facts(training, rows, trained.history, trained.judged), measurements)


def _record(job: Job, made: Opened, trained: Trained) -> dict[str, Any]:
    """What training.json says."""
    how = made.quantization
    return {
        "base": {"ref": job.base_ref, "digest": base_digest(job.base)},
        "objective": job.settings.objective,
        "quantization": how.table() if how else None,
        "compute_dtype": made.dtype,
        "device": made.device,
        "settings": recorded(job.settings),
        "steps": trained.steps,
        "planned_steps": made.plan.steps,
        "best_step": best_step(trained.history),
        **({"labels": list(made.labels)} if made.labels else {}),
        **results.of_the_data(made.stats),
    }


def _run(job: Job, made: Opened) -> Trained:
    """The loop, from the last checkpoint if there is one."""
    from edgeft.training.trainer import Task, judge_rows, make_trainer

    settings, plan, batches = job.settings, made.plan, made.batches
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
    arguments = training_arguments(settings, steps=plan.steps, device=made.device, dtype=made.dtype, output=job.scratch)
    model = made.tuned.model
    task = Task(
        model, made.objective, batches, made.held_out, watch, job.scratch, digest, made.device, settings, board,
        results.sampler(job, model, made.device) if settings.sample_answers else None,
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


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings that the result depends on, as training.json keeps them."""
    skipped = {"threads", "save_steps", "save_total_limit", "report_to"}
    return {key: value for key, value in asdict(settings).items() if key not in skipped}
