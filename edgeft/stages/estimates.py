"""What each target of a recipe would take: memory, disk, time. Called by `edgeft plan`; offline, no heavy import.

Sizes of merged checkpoints and GGUF files are exact but for headers; memory leans to the high side; times are rough,
from the speeds in `Machine`, and are there to tell minutes from hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeft.evals.suites import builtin_files
from edgeft.models import needs
from edgeft.models.shapes import Shape, adapter_parameters, shape_of
from edgeft.recipe.dataset import DataSection, DatasetEntry
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import BUILTIN_ROWS, HEADS
from edgeft.recipe.schema import Phase, Recipe
from edgeft.stages.imatrix import TOKENS as MEASURED_TOKENS
from edgeft.stages.targets import measured_targets, phase_target, verified_suites

BYTES_PER_TOKEN = 4.0  # of a JSONL row, quotes and keys included
ANSWER_TOKENS = 40
START_SECONDS = 8.0  # until torch and transformers are imported and a model is open
CPU_OPERATIONS = 3e10  # useful float32 operations a second and core
CUDA_OPERATIONS = 2e13  # useful 16-bit operations a second of a consumer GPU
SMALL = 50_000_000  # parameters below which training and answering take one thread
# Weights that quantizers write per second and core (see tools/bench); other files are as fast as the disk.
QUANTIZED_PER_SECOND = {"gguf-q4_k_m": 8e6, "gguf-q8_0": 1.3e8, "onnx-int4": 1.5e7}
PAIRED = ("dpo", "orpo", "reward")  # objectives whose rows hold two answers
REFERENCED = ("dpo", "kto")  # objectives that read every row once before the first step
_LABELS = 16  # of a head; a few more or less are nothing beside the model

LORA = {"lora-f32": 4.0, "lora-f16": 2.0, "lora-bf16": 2.0, "lora-q8_0": 34 / 32}  # bytes of a weight


@dataclass(frozen=True)
class Machine:
    """What trains: `device` "cpu" or "cuda", CPU `cores`, and useful floating-point operations per second."""

    device: str = "cpu"
    cores: int = 2
    operations: float = 0.0

    def speed(self, shape: Shape) -> float:
        """Operations a second on a model of this shape."""
        if self.operations or self.device == "cuda":
            return self.operations or CUDA_OPERATIONS
        return CPU_OPERATIONS * (1 if shape.parameters < SMALL else self.cores)


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds of one target; None where not known or not applicable. `exact`: `disk` is, but for headers."""

    ram: int | None = None
    vram: int | None = None
    disk: int | None = None
    seconds: float | None = None
    exact: bool = False


def estimates_of(recipe: Recipe, machine: Machine) -> dict[str, Estimate]:
    """Target name -> what it takes. Empty when the base model's sizes are unknown (a hub id that is neither cached nor
    in the table, or another architecture)."""
    shape = shape_of(recipe.base_model, relative_to=recipe.folder)
    if shape is None:
        return {}
    found = {"data": _reading(recipe, recipe.data)}
    for phase in recipe.phases:
        if phase.data is not None:
            found[f"data.{phase.name}"] = _reading(recipe, phase.data)
    for phase in recipe.phases:
        found[phase_target(recipe, phase)] = _training(recipe, phase, shape, machine)
    if recipe.suites:
        found["eval.base"] = found["eval.tuned"] = _asking(recipe, shape, machine, recipe.suites)
    if recipe.is_probed:
        found["probe"] = _probing(recipe, shape, machine)
    if recipe.merge_base == "auto":
        measured = _measuring(recipe, shape, machine)
        found |= dict.fromkeys(measured_targets(recipe), measured)
    if recipe.merge.write:
        merged = needs.merged_size(shape)
        found["merge"] = Estimate(ram=needs.export_memory(shape, "merge"), disk=merged.bytes, exact=merged.exact)
    if recipe.computes_imatrix:
        found["imatrix"] = _importance(recipe, shape, machine)
    for name in recipe.export:
        found[f"export.{name}"] = _lora(recipe, shape, name) if name in LORA else _export(recipe, shape, machine, name)
        suites = verified_suites(recipe, [gate for gate in recipe.gates if gate.scope == name])
        found[f"verify.{name}"] = _asking(recipe, shape, machine, suites)
    return found


def _reading(recipe: Recipe, data: DataSection) -> Estimate:
    return Estimate(ram=needs.OVERHEAD_BYTES["cpu"], disk=2 * _bytes(recipe, data.datasets))


def _training(recipe: Recipe, phase: Phase, shape: Shape, machine: Machine) -> Estimate:
    """One phase on its rows; a teacher's weights beside it, the first model's pass before it, answers to reward."""
    data = phase.data or recipe.data
    full, on_gpu = phase.adapter == "full", machine.device == "cuda"
    rows = 2 if phase.objective in PAIRED else 1  # each row holds two answers
    wanted = needs.training(
        shape,
        adapter=phase.adapter,
        rank=phase.lora_r,
        targets=phase.lora_target_modules,
        layers=phase.lora_layers,
        batch=phase.micro_batch_size * rows,
        length=data.sequence_len,
        checkpointing=phase.gradient_checkpointing,
        optimizer=phase.optimizer,
        device=machine.device,
        head=_LABELS if phase.objective in HEADS else 0,
    )
    tokens = rows * _trained_tokens(recipe, phase, data)
    operations = needs.training_operations(shape, tokens, checkpointing=phase.gradient_checkpointing, full=full)
    more, known = 0, True
    if phase.objective in REFERENCED:
        operations += _forward(shape, tokens)
    if phase.objective == "grpo":  # every prompt is answered several times, a token at a time
        answers = phase.num_generations * phase.max_completion_length
        operations += _forward(shape, int(_seen_rows(recipe, phase, data) * answers))
    if phase.teacher is not None:
        teacher = shape_of(phase.teacher, relative_to=recipe.folder)
        known = teacher is not None
        if teacher is not None:
            more = teacher.parameters * (2 if on_gpu else 4)
            operations += _forward(teacher, tokens)
    adapter = 4 * adapter_parameters(shape, phase.lora_r, phase.lora_target_modules, phase.lora_layers)
    written = needs.merged_size(shape).bytes
    total = wanted.total + more
    return Estimate(
        ram=needs.OVERHEAD_BYTES["cpu"] + written if on_gpu else total if known else None,
        vram=(total if known else None) if on_gpu else None,
        disk=written if full else adapter,
        seconds=START_SECONDS + operations / machine.speed(shape) if known else None,
        exact=not (
            phase.objective in HEADS
            or recipe.added_tokens
            or phase.trainable_tokens
            or phase.use_dora
            or _grows(recipe, phase)
        ),
    )


def _grows(recipe: Recipe, phase: Phase) -> bool:
    """Whether what is written holds more than this phase's own matrices: side by side with those that it started from
    (PiSSA, OLoRA) or that an earlier phase left folded in."""
    later = phase is not recipe.phases[0]
    return phase.lora_init in ("pissa", "olora", "eva") or (later and phase.previous == "merge")


def _forward(shape: Shape, tokens: int) -> float:
    return 2.0 * shape.parameters * tokens


def _asking(recipe: Recipe, shape: Shape, machine: Machine, suites: dict[str, Suite]) -> Estimate:
    """Answering every question once, and the loss of every expected answer."""
    rows = sum(_rows(recipe, suite) for suite in suites.values())
    tokens = rows * (2 * _row_tokens(recipe) + ANSWER_TOKENS)
    weights = shape.parameters * (2 if machine.device == "cuda" else 4)
    return Estimate(
        ram=needs.OVERHEAD_BYTES["cpu"] + (0 if machine.device == "cuda" else weights),
        vram=needs.OVERHEAD_BYTES["cuda"] + weights if machine.device == "cuda" else None,
        seconds=START_SECONDS + 2.0 * shape.parameters * tokens / machine.speed(shape),
    )


def _measuring(recipe: Recipe, shape: Shape, machine: Machine) -> Estimate:
    """The trained model and two candidates read and answer the validation rows, one model in memory at a time."""
    rows = min(64, _rows(recipe, Suite(rows="validation")))
    tokens = 3 * rows * (3 * _row_tokens(recipe) + ANSWER_TOKENS)
    weights = shape.parameters * (2 if machine.device == "cuda" else 4)
    return Estimate(
        ram=needs.OVERHEAD_BYTES["cpu"] + (0 if machine.device == "cuda" else weights),
        vram=needs.OVERHEAD_BYTES["cuda"] + weights if machine.device == "cuda" else None,
        seconds=START_SECONDS + 2.0 * shape.parameters * tokens / machine.speed(shape),
    )


def _probing(recipe: Recipe, shape: Shape, machine: Machine) -> Estimate:
    """Training and validation rows read and completed, neutral texts read by base and tuned model."""
    asked = 2 * recipe.probe.rows * (2 * _row_tokens(recipe) + ANSWER_TOKENS)
    texts = sum(path.stat().st_size for path in builtin_files("builtin:text")) / BYTES_PER_TOKEN
    tokens = asked + (2 * texts if recipe.probe.drift else 0)
    weights = shape.parameters * (2 if machine.device == "cuda" else 4)
    return Estimate(
        ram=needs.OVERHEAD_BYTES["cpu"] + (0 if machine.device == "cuda" else weights),
        vram=needs.OVERHEAD_BYTES["cuda"] + weights if machine.device == "cuda" else None,
        seconds=START_SECONDS + 2.0 * shape.parameters * tokens / machine.speed(shape),
    )


def _importance(recipe: Recipe, shape: Shape, machine: Machine) -> Estimate:
    """One forward pass over training rows; the file holds a float per input column."""
    tokens = min(int(_count(recipe, recipe.data.datasets) * _row_tokens(recipe)), MEASURED_TOKENS)
    asking = _asking(recipe, shape, machine, {})
    columns = sum(tensor.columns for tensor in shape.tensors() if tensor.linear)
    return Estimate(
        ram=asking.ram,
        vram=asking.vram,
        disk=4 * columns,
        seconds=START_SECONDS + 2.0 * shape.linear_parameters * tokens / machine.speed(shape),
    )


def _lora(recipe: Recipe, shape: Shape, name: str) -> Estimate:
    """The adapter's matrices, and the base beside them when it is asked for."""
    train = recipe.train
    weights = adapter_parameters(shape, train.lora_r, train.lora_target_modules, train.lora_layers)
    base = recipe.export[name].with_base  # type: ignore[index]
    beside = needs.export_size(shape, f"gguf-{base}") if base else None
    disk = int(weights * LORA[name]) + (beside.bytes if beside else 0)
    return Estimate(
        ram=needs.export_memory(shape, name),
        disk=disk if beside or not base else None,
        seconds=START_SECONDS,
        exact=False,
    )


def _export(recipe: Recipe, shape: Shape, machine: Machine, name: str) -> Estimate:
    options = recipe.export[name]  # type: ignore[index]
    overrides = bool(options.tensor_types or options.token_embedding_type or options.output_tensor_type)
    size = needs.export_size(shape, name, imatrix=bool(options.imatrix), overrides=overrides)
    speed = QUANTIZED_PER_SECOND.get(name, 2e8 / machine.cores) * machine.cores
    return Estimate(
        ram=needs.export_memory(shape, name),
        disk=size.bytes if size else None,
        seconds=START_SECONDS + shape.parameters / speed,
        exact=bool(size and size.exact),
    )


def _bytes(recipe: Recipe, entries: list[DatasetEntry]) -> int:
    paths = (recipe.resolve(entry.path) for entry in entries)
    return sum(path.stat().st_size for path in paths if path.is_file())


def _count(recipe: Recipe, entries: list[DatasetEntry]) -> int:
    paths = (recipe.resolve(entry.path) for entry in entries)
    return sum(_lines(path) for path in paths if path.is_file())


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))


def _row_tokens(recipe: Recipe, data: DataSection | None = None) -> float:
    """Tokens of an average training row, cut at the longest that is allowed."""
    data = data or recipe.data
    rows = _count(recipe, data.datasets)
    if not rows:
        return 0.0
    return min(_bytes(recipe, data.datasets) / rows / BYTES_PER_TOKEN, data.sequence_len)


def _seen_rows(recipe: Recipe, phase: Phase, data: DataSection) -> float:
    """Rows that a phase trains on, counted as often as they come."""
    if phase.max_steps is None:
        return _count(recipe, data.datasets) * phase.num_epochs
    if phase.tokens_per_step is not None:
        return phase.max_steps * phase.tokens_per_step / max(1.0, _row_tokens(recipe, data))
    return phase.max_steps * phase.micro_batch_size * phase.gradient_accumulation_steps


def _trained_tokens(recipe: Recipe, phase: Phase, data: DataSection) -> int:
    return int(_seen_rows(recipe, phase, data) * _row_tokens(recipe, data))


def _rows(recipe: Recipe, suite: Suite) -> int:
    data = recipe.data
    if suite.rows in BUILTIN_ROWS:
        count = sum(_lines(path) for path in builtin_files(suite.rows))
    elif suite.rows in ("validation", "test"):
        entries, size = (
            (data.validation, data.val_set_size) if suite.rows == "validation" else (data.test, data.test_set_size)
        )
        count = _count(recipe, entries)
        if size is not None:
            count = int(size if size >= 1 else size * _count(recipe, data.datasets))
    else:
        path = recipe.resolve(suite.rows)
        count = _lines(path) if path.is_file() else 0
    return count if suite.limit is None else min(count, suite.limit)
