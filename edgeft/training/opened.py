"""What a run needs before its first step: the job it is given, the base opened, rows, plan, what is trained, the
objective bound to them. Used by `edgeft.training.run` and `edgeft.training.lr_find`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import InputError
from edgeft.models.open import Quantization, open_base, pick_device, pick_dtype, quantization_of
from edgeft.models.quiet import quiet
from edgeft.models.tokenizer import load_tokenizer
from edgeft.progress import Listener, silent
from edgeft.registry import lookup
from edgeft.training import forms
from edgeft.training.adapter import Tuned, make
from edgeft.training.arguments import Settings, check_services
from edgeft.training.batches import Batches, Plan, evaluation_batches, make_plan
from edgeft.training.machine import choose_threads, steady
from edgeft.training.objectives import OBJECTIVES, ROWS, Bound, Context
from edgeft.training.packed import packs_exactly

HEADS = ("classification", "reward")
FILLED = ("sft", "cpt")  # objectives whose rows may share a line: nothing but this model reads them


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
class Opened:
    """Everything that a run needs before its first step."""

    plan: Plan
    tuned: Tuned
    objective: Bound
    train: forms.Rows
    validation: forms.Rows | None
    device: str
    dtype: str
    threads: int
    stats: Mapping[str, Any]  # the dataset's
    quantization: Quantization | None
    labels: tuple[str, ...]
    rows_at_a_time: int  # fewer than the micro-batch after memory ran out, or when a step is a budget of tokens
    in_parts: bool
    fills: bool  # rows share lines, see `Batches`

    @property
    def batches(self) -> Batches:
        """The run's micro-batches, cut into what goes through the model at once."""
        most = self.rows_at_a_time if self.in_parts else None
        return Batches(self.train, self.plan.batches, most, fill=self.fills)

    @property
    def held_out(self) -> Batches | None:
        """The validation rows, by length."""
        if self.validation is None:
            return None
        tokens = 2 * self.rows_at_a_time * max(self.validation.lengths)
        return Batches(self.validation, evaluation_batches(self.validation.lengths, tokens))


@contextmanager
def opened(job: Job, pieces: int = 1) -> Iterator[Opened]:
    """Open the job's base and rows. Inside, torch computes with the run's threads and seed, and libraries are quiet.

    pieces  a micro-batch goes through the model in so many parts (more than one after memory ran out)
    """
    settings, stats = job.settings, files.read_json(job.dataset / "stats.json")
    device = pick_device(job.device)
    dtype = pick_dtype(settings.compute_dtype, device)
    check_services(settings, device)
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
        rows, validation = _rows(job, model, stats)
        exact = ROWS[settings.objective] == "language" and packs_exactly(model)
        plan = _plan(job, exact, rows, stats)
        if settings.objective not in HEADS:
            from edgeft.training.objectives.likelihood import prepare

            prepare(model)
        tuned = _tuned(job, model, rows, plan)
        context = Context(
            settings=settings,
            model=tuned.model,
            train=rows,
            validation=validation,
            base=job.base,
            stop_ids=tuple(stats["stop_ids"]),
            labels=labels or (),
            chat_template=stats.get("chat_template"),
            files=job.files,
            device=device,
            dtype=dtype,
        )
        objective = lookup(OBJECTIVES, settings.objective, "objective").load().bind(context)
        yield Opened(
            plan, tuned, objective, rows, validation, device, dtype, threads, stats, how, labels or (),
            rows_at_a_time=max(1, settings.micro_batch_size // pieces),
            in_parts=bool(settings.tokens_per_step) or pieces > 1,
            fills=exact and settings.objective in FILLED,
        )  # fmt: skip


def _rows(job: Job, model: Any, stats: Mapping[str, Any]) -> tuple[forms.Rows, forms.Rows | None]:
    """Training and validation rows, in the form that the objective learns from."""
    form = ROWS[job.settings.objective]
    _check_form(job, form, stats)
    pad_id = _pad_id(model)
    rows = forms.read(form, job.dataset / "train.parquet", pad_id)
    held = job.dataset / "validation.parquet"
    validation = forms.read(form, held, pad_id) if held.is_file() else None
    _check_watched(job.settings, validation)
    return rows, validation


def _tuned(job: Job, model: Any, rows: forms.Rows, plan: Plan) -> Tuned:
    batches = Batches(rows, plan.batches)
    return make(
        model,
        job.settings,
        base=job.base,
        tokenizer=load_tokenizer(job.base) if job.settings.trainable_tokens else None,
        previous=job.previous,
        batches=(part for index in range(len(batches)) for part in batches[index]),
    )


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


def _plan(job: Job, exact: bool, rows: forms.Rows, stats: Mapping[str, Any]) -> Plan:
    settings, length = job.settings, int(stats["sequence_len"])
    wanted = bool(stats.get("sample_packing")) and ROWS[settings.objective] == "language"
    packs = wanted and exact
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


def _pad_id(model: Any) -> int:
    """What stands behind shorter rows; no token sees it, so that any id will do."""
    pad = model.config.get_text_config().pad_token_id
    return int(pad) if isinstance(pad, int) and pad >= 0 else 0
