"""What must hold between the keys of a recipe, beyond what each may be. Called by `edgeft.recipe.load`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeft.errors import Location, RecipeError
from edgeft.recipe import gates
from edgeft.recipe.consistency_of_training import training_faults
from edgeft.recipe.judging import Suite, suite_metrics
from edgeft.recipe.names import (
    BUILTIN_ROWS,
    EXPORTS,
    FIDELITY,
    FIDELITY_OF_LABELS,
    HARNESS_PREFIX,
    LABELLED,
    METRIC_KINDS,
    NEED_IMATRIX,
    ONNX_OF_LABELS,
    PLAIN_GGUF,
    PROBE,
    SPLITS,
    TENSORS_NEED_IMATRIX,
)
from edgeft.recipe.schema import Recipe
from edgeft.recipe.shipping import ExportOptions
from edgeft.registry import suggestion

_OF_LABELS = {"rows", "type", "kind", "metrics", "limit"}  # what a suite of labels may say
# Export -> the options that mean something to it.
_SHARDS = re.compile(r"^[1-9][0-9]*(\.[0-9]+)? ?[KMG]B$", re.IGNORECASE)
_QUANTIZED = ("imatrix", "tensor_types", "token_embedding_type", "output_tensor_type", "max_shard_size", "quantizer")
_ONNX = ("backend", "builder", "device", "provider", "adapter", "layout", "max_length")
_OF_HEADS = {"block_size", "symmetric", "accuracy_level", "embeddings", "layout", "max_length"}
_OF_OPTIMUM = {"backend", "block_size", "accuracy_level", "max_length"}
_SCALES = ("block_size", "symmetric", "accuracy_level", "algorithm")
_OPTIONS: dict[str, tuple[str, ...]] = {
    **{name: ("with_base",) for name in EXPORTS if name.startswith("lora-")},
    **dict.fromkeys(("onnx-fp32", "onnx-fp16", "onnx-bf16"), _ONNX),
    "onnx-int8": (*_SCALES, "embeddings", *_ONNX),
    "onnx-int4": (*_SCALES, "head", "layers", "embeddings", *_ONNX),
    **{name: ("max_shard_size",) if name in PLAIN_GGUF else _QUANTIZED for name in EXPORTS if name.startswith("gguf-")},
}


def inconsistencies(recipe: Recipe) -> list[RecipeError]:
    """Every contradiction in a recipe, each with its place."""
    return [
        *_data(recipe),
        *_train(recipe),
        *training_faults(recipe),
        *_eval(recipe),
        *_probe(recipe),
        *_gates(recipe),
        *_export(recipe),
        *_verify(recipe),
    ]


def _data(recipe: Recipe) -> Iterator[RecipeError]:
    data = recipe.data
    for split, size in (("validation", "val_set_size"), ("test", "test_set_size")):
        value: float | None = getattr(data, size)
        where = recipe.location_of(f"data.{size}")
        if value is None:
            continue
        if getattr(data, split):
            yield RecipeError(f"data.{size} and data.{split} contradict each other", where=where, do="keep one of them")
        if value >= 1 and value != int(value):
            do = "a fraction is below 1; from 1 on it is a number of rows"
            yield RecipeError(f"data.{size} must be a whole number of rows, got {value:g}", where=where, do=do)
    trained = {recipe.resolve(entry.path) for entry in data.datasets}
    for split in SPLITS:
        for index, entry in enumerate(getattr(data, split)):
            if recipe.resolve(entry.path) in trained:
                where = recipe.location_of(f"data.{split}.{index}.path")
                do = f"use {'val' if split == 'validation' else 'test'}_set_size to split it"
                yield RecipeError(f"the {split} file {entry.path} is a training file too", where=where, do=do)


def _train(recipe: Recipe) -> Iterator[RecipeError]:
    watched = recipe.has_split("validation")
    if recipe.merge_base == "auto" and not watched:
        where = recipe.location_of("merge.merge_base")
        do = "give data.validation or data.val_set_size"
        yield RecipeError("merge_base: auto is measured on validation rows, and there are none", where=where, do=do)
    if recipe.train.adapter != "qlora" and recipe.merge.merge_base in ("dequantized", "auto"):
        where = recipe.location_of("merge.merge_base")
        do = f"a {recipe.train.adapter} adapter is trained on the pristine base: leave merge_base out"
        yield RecipeError("there is no dequantized base: the adapter is not qlora", where=where, do=do)


def _eval(recipe: Recipe) -> Iterator[RecipeError]:
    if recipe.eval is None:
        return
    for name, suite in recipe.suites.items():
        yield from _labels(recipe, name, suite)
        where = recipe.location_of(f"eval.suites.{name}.rows")
        if suite.rows in SPLITS and not recipe.has_split(suite.rows):
            do = f"give data.{suite.rows}, or data.{'val' if suite.rows == 'validation' else 'test'}_set_size"
            yield RecipeError(f"suite {name!r} asks the {suite.rows} rows, and there are none", where=where, do=do)
        yield from _metrics(recipe, name, suite)
        for metric, setting in (("regex", "pattern"), ("json_fields", "json_schema"), ("judge", "judge")):
            if metric in suite.metrics and getattr(suite, setting) is None:
                at = recipe.location_of(f"eval.suites.{name}.metrics")
                yield RecipeError(f"suite {name!r}: {metric} needs {setting}", where=at, do=f"give the suite {setting}")
        if suite.few_shot_rows in SPLITS and not recipe.has_split(suite.few_shot_rows):
            at = recipe.location_of(f"eval.suites.{name}.few_shot_rows")
            yield RecipeError(
                f"suite {name!r} takes examples of {suite.few_shot_rows} rows, and there are none", where=at
            )
        if suite.rows.startswith("builtin:") and suite.rows not in BUILTIN_ROWS:
            do = suggestion(suite.rows, BUILTIN_ROWS)
            yield RecipeError(f"there are no built-in rows {suite.rows!r}", where=where, do=do)


def _labels(recipe: Recipe, name: str, suite: Suite) -> Iterator[RecipeError]:
    """Labels are asked of what a head was trained for, and of nothing else."""
    place = f"eval.suites.{name}"
    has_labels, asks_labels = recipe.train.objective == LABELLED, suite.kind == LABELLED
    if has_labels and not asks_labels:
        what = f"suite {name!r} asks for answers; {LABELLED} trains a head for labels, which writes none"
        yield RecipeError(what, where=recipe.location_of(place), do=f"leave it out, or give it kind: {LABELLED}")
    if asks_labels and not has_labels:
        what = f"suite {name!r} asks for labels; objective: {recipe.train.objective} trains no head for them"
        do = "ask for an answer: kind: generation, with the metric accuracy"
        yield RecipeError(what, where=recipe.location_of(f"{place}.kind"), do=do)
    if recipe.train.objective == "reward" and (suite.task or suite.kind != "pairs"):
        what = f"suite {name!r} asks for more than a reward model can tell: which of two answers is better"
        yield RecipeError(what, where=recipe.location_of(place), do="leave it out, or give it kind: pairs")
    if not asks_labels:
        return
    for key in sorted(suite.model_fields_set - _OF_LABELS):
        what = f"suite {name!r}: {key} means nothing to a head for labels"
        yield RecipeError(what, where=recipe.location_of(f"{place}.{key}"), do="leave it out")


def _probe(recipe: Recipe) -> Iterator[RecipeError]:
    if recipe.has_head and "probe" in recipe.model_fields_set and (recipe.probe.rows or recipe.probe.drift):
        what = f"probe: asks a language model; {recipe.train.objective} puts a head on it"
        yield RecipeError(what, where=recipe.location_of("probe"), do="leave it out")


def _metrics(recipe: Recipe, name: str, suite: Suite) -> Iterator[RecipeError]:
    """Metrics that score no answers of that kind, and settings of tasks where there is none."""
    for index, metric in enumerate(suite.metrics if suite.task is None else ()):
        if suite.kind not in METRIC_KINDS[metric]:
            fitting = ", ".join(other for other, kinds in METRIC_KINDS.items() if suite.kind in kinds)
            yield RecipeError(
                f"suite {name!r} is of the kind {suite.kind}, which {metric} does not score",
                where=recipe.location_of(f"eval.suites.{name}.metrics.{index}"),
                do=f"its metrics: {fitting}",
            )
    if suite.include_path is not None and suite.task is None:
        where = recipe.location_of(f"eval.suites.{name}.include_path")
        do = f"write rows: {HARNESS_PREFIX}TASK, or leave it out"
        yield RecipeError(f"suite {name!r} asks no lm-eval task, so it has no include_path", where=where, do=do)


def _gates(recipe: Recipe) -> Iterator[RecipeError]:
    metrics = suite_metrics(recipe.suites)
    seen: dict[str, str] = {}
    for index, line in enumerate(recipe.gate.checks):
        where = recipe.location_of(f"gate.checks.{index}")
        try:
            gate = gates.parse(line, metrics, list(recipe.export))
        except gates.GateError as error:
            yield RecipeError(f"gate {line!r}: {error}", where=_shifted(where, error.offset), do=error.do)
            continue
        missing = _unmeasured(recipe, gate)
        if missing is not None:
            yield RecipeError(f"gate {line!r}: {missing[0]}", where=where, do=missing[1])
        words = " ".join(gate.text.split())
        if words in seen:
            yield RecipeError(f"the gate {line!r} stands here twice", where=where)
        seen[words] = line


def _unmeasured(recipe: Recipe, gate: gates.Gate) -> tuple[str, str] | None:
    """Why this recipe cannot measure a gate's figure, and what to do; None when it can."""
    if gate.suite is not None:
        return None
    if gate.timed and recipe.train.objective == "reward":
        return "a reward model writes no answers, so there is no time to measure", "leave it out"
    if gate.scope is not None and gate.metric in FIDELITY:
        labelled = recipe.train.objective == LABELLED
        if labelled and gate.metric not in FIDELITY_OF_LABELS:
            do = f"of a head for labels are measured {', '.join(FIDELITY_OF_LABELS)}"
            return f"a head for labels has no {gate.metric}", do
        if not labelled and gate.metric == FIDELITY_OF_LABELS[-1]:
            return f"{gate.metric} is measured of a head for labels", "gate mean_kl or top1_agreement"
    if gate.metric == "tokens_per_second" and recipe.train.objective == LABELLED:
        return "a head for labels writes no tokens", "judge its p95_latency"
    if gate.timed or gate.metric in ("same_answers", "common_prefix"):
        asked = recipe.suites if gate.scope is None or gate.timed else verified_by(recipe)
        return None if asked else ("no suite is asked, so nothing is measured", "give eval.suites, or test rows")
    if recipe.has_head and gate.metric in PROBE:
        return f"{recipe.train.objective} trains a head, which is not probed", "leave it out"
    group, _, name = gate.metric.partition(".")
    if group == "drift" and not recipe.probe.drift:
        return "probe.drift is false", "leave it out"
    if (group == "memorised" or gate.metric == "overfit.gap") and not recipe.probe.rows:
        return "probe.rows is 0", "leave it out"
    split = name if group == "leakage" else "validation"
    if (group == "overfit" or gate.metric in ("memorised.validation", "memorised.excess") or group == "leakage") and (
        not recipe.has_split(split)
    ):
        do = f"give data.{split}, or data.{'val' if split == 'validation' else 'test'}_set_size"
        return f"there are no {split} rows", do
    if not recipe.probe.rows and not recipe.probe.drift:
        return "probe measures nothing in this recipe", "leave probe out"
    return None


def verified_by(recipe: Recipe) -> list[str]:
    """The suites that exported files answer too."""
    chosen = recipe.verify.suites
    return [name for name, suite in recipe.suites.items() if suite.rows not in BUILTIN_ROWS or name in (chosen or ())]


def _shifted(where: Location, offset: int) -> Location:
    return Location(where.file, where.line, where.column + offset) if where.column else where


def _export(recipe: Recipe) -> Iterator[RecipeError]:
    for name, options in recipe.export.items():
        known = _OPTIONS.get(name)
        for key in options.model_dump(exclude_none=True):
            if known is None or key not in known:
                where = recipe.location_of(f"export.{name}.{key}")
                do = f"its options: {', '.join(known)}" if known else "leave it out: it has none"
                yield RecipeError(f"{name} has no option {key!r}", where=where, do=do)
        if options.backend == "optimum":
            for key in sorted({*options.model_dump(exclude_none=True)} - _OF_OPTIMUM):
                where = recipe.location_of(f"export.{name}.{key}")
                do = "leave it out, or write backend: genai"
                yield RecipeError(f"{name} has no option {key!r} with backend: optimum", where=where, do=do)
        if recipe.train.objective == LABELLED and name in ONNX_OF_LABELS:
            for key in sorted({*options.model_dump(exclude_none=True)} & {*(known or ())} - _OF_HEADS):
                where = recipe.location_of(f"export.{name}.{key}")
                do = f"leave it out; its options: {', '.join(sorted(_OF_HEADS & {*(known or ())}))}"
                yield RecipeError(f"{name} has no option {key!r} with a head for labels", where=where, do=do)
        yield from _gguf(recipe, name, options)


def _gguf(recipe: Recipe, name: str, options: ExportOptions) -> Iterator[RecipeError]:
    place = f"export.{name}"
    if options.max_shard_size is not None and not _SHARDS.match(options.max_shard_size):
        where = recipe.location_of(f"{place}.max_shard_size")
        what = f"{place}.max_shard_size must be a size of files, got {options.max_shard_size!r}"
        yield RecipeError(what, where=where, do="write it as 2GB or 500MB")
    for pattern in options.tensor_types or ():
        try:
            re.compile(pattern)
        except re.error as error:
            where = recipe.location_of(f"{place}.tensor_types")
            yield RecipeError(f"{pattern!r} is not a regular expression ({error})", where=where)
    if options.imatrix:
        return
    do = f"write {name}: {{imatrix: true}}, or choose another type"
    if name in NEED_IMATRIX:
        where = recipe.location_of(place)
        yield RecipeError(f"{name} cannot be made without an importance matrix", where=where, do=do)
        return
    for pattern, type_name in (options.tensor_types or {}).items():
        if type_name in TENSORS_NEED_IMATRIX:
            where = recipe.location_of(f"{place}.tensor_types")
            what = f"{pattern!r} as {type_name} cannot be made without an importance matrix"
            yield RecipeError(what, where=where, do=do)


def _verify(recipe: Recipe) -> Iterator[RecipeError]:
    rows = recipe.verify.rows
    if rows in SPLITS and not recipe.has_split(rows):
        where = recipe.location_of("verify.rows")
        yield RecipeError(f"verify asks the {rows} rows, and there are none", where=where, do="give them in data:")
    for index, name in enumerate(recipe.verify.suites or ()):
        if name not in recipe.suites:
            where = recipe.location_of(f"verify.suites.{index}")
            do = suggestion(name, recipe.suites) if recipe.suites else "the recipe has no eval suites"
            yield RecipeError(f"unknown suite {name!r}", where=where, do=do)
