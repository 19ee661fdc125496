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
from edgeft.recipe.names import BUILTIN_ROWS
from edgeft.recipe.schema import DatasetEntry, Recipe, Suite
from edgeft.stages.imatrix import TOKENS as MEASURED_TOKENS
from edgeft.stages.targets import measured_targets, verified_suites

BYTES_PER_TOKEN = 4.0  # of a JSONL row, quotes and keys included
ANSWER_TOKENS = 40
START_SECONDS = 8.0  # until torch and transformers are imported and a model is open
CPU_OPERATIONS = 3e10  # useful float32 operations a second and core
CUDA_OPERATIONS = 2e13  # useful 16-bit operations a second of a consumer GPU
SMALL = 50_000_000  # parameters below which training and answering take one thread
# Weights that quantizers write per second and core (see tools/bench); other files are as fast as the disk.
QUANTIZED_PER_SECOND = {"gguf-q4_k_m": 8e6, "gguf-q8_0": 1.3e8, "onnx-int4": 1.5e7}

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
    found = {"data": Estimate(ram=needs.OVERHEAD_BYTES["cpu"], disk=2 * _bytes(recipe, recipe.data.datasets))}
    found["train"] = _training(recipe, shape, machine)
    if recipe.suites:
        found["eval.base"] = found["eval.tuned"] = _asking(recipe, shape, machine, recipe.suites)
    if recipe.probe.rows or recipe.probe.drift:
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


def _training(recipe: Recipe, shape: Shape, machine: Machine) -> Estimate:
    train = recipe.train
    wanted = needs.training(
        shape,
        adapter=train.adapter,
        rank=train.lora_r,
        targets=train.lora_target_modules,
        batch=train.micro_batch_size,
        length=recipe.data.sequence_len,
        checkpointing=train.gradient_checkpointing,
        optimizer=train.optimizer,
        device=machine.device,
    )
    operations = needs.training_operations(shape, _trained_tokens(recipe), checkpointing=train.gradient_checkpointing)
    on_gpu = machine.device == "cuda"
    adapter = 4 * adapter_parameters(shape, train.lora_r, train.lora_target_modules)
    return Estimate(
        ram=needs.OVERHEAD_BYTES["cpu"] + needs.merged_size(shape).bytes if on_gpu else wanted.total,
        vram=wanted.total if on_gpu else None,
        disk=adapter,
        seconds=START_SECONDS + operations / machine.speed(shape),
        exact=True,
    )


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
    weights = adapter_parameters(shape, recipe.train.lora_r, recipe.train.lora_target_modules)
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


def _row_tokens(recipe: Recipe) -> float:
    """Tokens of an average training row, cut at the longest that is allowed."""
    rows = _count(recipe, recipe.data.datasets)
    if not rows:
        return 0.0
    return min(_bytes(recipe, recipe.data.datasets) / rows / BYTES_PER_TOKEN, recipe.data.sequence_len)


def _trained_tokens(recipe: Recipe) -> int:
    train = recipe.train
    rows = _count(recipe, recipe.data.datasets) * train.num_epochs
    if train.max_steps is not None:
        rows = train.max_steps * train.micro_batch_size * train.gradient_accumulation_steps
    return int(rows * _row_tokens(recipe))


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
