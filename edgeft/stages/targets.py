"""The targets that a recipe stands for: which stage with which parameters reads what. Called by `edgeft.cli`.

Roles that the stages may count on:

    data      sources base, datasets.N, validation.N, test.N, chat_template
    train     inputs data, adapter (of an earlier phase); sources base, teacher, rewards.N; of several phases
              train.NAME, and data.NAME for those with rows of their own
    merge_base  inputs data, adapter, imatrix; sources base, imatrix (only with merge_base: auto; merge_base.NAME for
              quantized exports, with their importance matrix)
    merge     inputs adapter, choice (with merge_base: auto); sources base
    eval      inputs data, adapter (eval.tuned only); sources base, suites.NAME (suites whose rows are a file)
    probe     inputs adapter, data; sources base
    gate      inputs base, tuned (evaluations, when the recipe has suites), probe
    imatrix   inputs data, adapter; sources base (only when an export asks for one of the training rows)
    export    inputs adapter, imatrix (when it is computed), choice (with merge_base: auto); sources base, imatrix (when
              it is a file)
    verify    inputs export, adapter, data, tuned (the evaluation, when the recipe has suites); sources base,
              suites.NAME
    report    inputs every other target, by its name
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from edgeft import datafiles
from edgeft.models import grown
from edgeft.pipeline.plan import stage_of
from edgeft.pipeline.stage import Source, Target
from edgeft.recipe.check import suite_files
from edgeft.recipe.dataset import DataSection
from edgeft.recipe.gates import Gate
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import BUILTIN_ROWS, LABELLED, SPLITS, TEMPLATES
from edgeft.recipe.schema import Phase, Recipe
from edgeft.stages import STAGES

FULL_PRECISION = ("f32", "f16", "bf16", "fp32", "fp16")  # export types that keep the merged weights as they are


def targets_of(recipe: Recipe) -> list[Target]:
    """All targets of a recipe, in the order of the work. Paths in sources are relative to the recipe's folder."""
    targets = [*_datasets(recipe), *_train(recipe), *_evals(recipe), *_probe(recipe), *_gate(recipe)]
    if recipe.computes_imatrix:
        targets.append(_imatrix(recipe))
    targets += [*_measured(recipe), *_merge(recipe)]
    for name in recipe.export:
        targets += [_export(recipe, name), _verify(recipe, name)]
    return [*targets, _report(recipe, targets)]


def params_of(stage: str, **fields: Any) -> BaseModel:
    """The Params of a stage kind, from the stage's own module (light to import: no extra is needed)."""
    model: type[BaseModel] = stage_of(STAGES[stage]).Params
    lost = set(fields) - set(model.model_fields)
    if lost:
        raise TypeError(f"the stage {stage!r} does not take {', '.join(sorted(lost))}")
    return model(**fields)


def _fields(section: BaseModel) -> dict[str, Any]:
    """A section's fields as they are: nested models stay models."""
    return {name: getattr(section, name) for name in type(section).model_fields}


def _datasets(recipe: Recipe) -> Iterator[Target]:
    """The recipe's own rows, and those of phases that have some."""
    for name, _, data, objective in recipe.data_sections:
        yield _data(recipe, name, data, objective)


def _data(recipe: Recipe, name: str, data: DataSection, objective: str) -> Target:
    entries = {"datasets": data.datasets, "validation": data.validation, "test": data.test}
    sources = {"base": _base(recipe)}
    for key, listed in entries.items():
        sources |= {f"{key}.{index}": _rows(entry.path) for index, entry in enumerate(listed)}
    if data.chat_template is not None and data.chat_template not in TEMPLATES:
        sources["chat_template"] = Source("file", data.chat_template)
    fields = {**_fields(data), "seed": recipe.seed, "objective": objective}
    return Target(name, "data", params_of("data", **fields), sources=sources)


def _rows(written: str) -> Source:
    path = datafiles.without_sample(written)[0]
    return Source("file" if datafiles.is_plain_file(path) else "rows", path)


def _train(recipe: Recipe) -> Iterator[Target]:
    """The phases of the training, each with its own rows when it has some, the last one called `train` without a name
    among several."""
    before: str | None = None
    for phase in recipe.phases:
        name = phase_target(recipe, phase)
        inputs = {"data": f"data.{phase.name}" if phase.data is not None else "data"}
        if before is not None:
            inputs["adapter"] = before
        fields = {key: value for key, value in _fields(phase).items() if key not in ("name", "data")}
        fields |= {"seed": recipe.seed, "base_model": base_ref(recipe)}
        yield Target(name, "train", params_of("train", **fields), inputs=inputs, sources=_train_sources(recipe, phase))
        before = name


def phase_target(recipe: Recipe, phase: Phase) -> str:
    return "train" if not recipe.earlier_phases else f"train.{phase.name}"


def trained_target(recipe: Recipe) -> str:
    """The target whose result ships: the last phase's."""
    return phase_target(recipe, recipe.train)


def _train_sources(recipe: Recipe, phase: Phase) -> dict[str, Source]:
    sources = {"base": _base(recipe)}
    if phase.teacher is not None:
        sources["teacher"] = Source("model", phase.teacher)
    for index, reward in enumerate(phase.rewards):
        if reward.path is not None:
            sources[f"rewards.{index}"] = Source("file", reward.path)
    return sources


def _merge(recipe: Recipe) -> Iterator[Target]:
    if recipe.merge.write:
        yield Target(
            "merge",
            "merge",
            params_of("merge", merge_base=recipe.merge_base),
            inputs={"adapter": trained_target(recipe)} | _choice(recipe, None),
            sources={"base": _base(recipe)},
            after=_after(recipe),
        )


def _choice(recipe: Recipe, export: str | None) -> dict[str, str]:
    """The input that tells the merge base of an export (None: of the merged checkpoint): quantized files are measured
    each for itself, since a second quantization may turn the order of the candidates. An adapter alone goes on the base
    that is nearer unquantized."""
    if recipe.merge_base != "auto":
        return {}
    format_, _, type_ = (export or "").partition("-")
    quantized = bool(export) and format_ != "lora" and type_ not in FULL_PRECISION
    return {"choice": f"merge_base.{export}" if quantized else "merge_base"}


def measured_targets(recipe: Recipe) -> list[str]:
    """The targets that `merge_base: auto` adds: `merge_base` for what keeps the merged weights as they are, and one for
    each quantized file."""
    made = [*([None] if recipe.merge.write else []), *recipe.export]
    return list(dict.fromkeys(name for export in made for name in _choice(recipe, export).values()))


def _measured(recipe: Recipe) -> Iterator[Target]:
    suite = next(iter(recipe.suites.values()), None)
    asked = {"metrics": list(suite.metrics), "max_tokens": suite.max_tokens} if suite else {}
    for name in measured_targets(recipe):
        export = name.partition(".")[2]
        fields: dict[str, Any] = dict(asked)
        inputs, sources = {"data": "data", "adapter": trained_target(recipe)}, {"base": _base(recipe)}
        if export:  # candidates are made as they would ship: with its options and its importance matrix
            options, more_inputs, more_sources = _asked_of(recipe, export)
            fields |= {"export": export, "quantizer": options.pop("quantizer", None), "options": options}
            inputs, sources = inputs | more_inputs, sources | more_sources
        yield Target(
            name,
            "merge_base",
            params_of("merge_base", **fields),
            inputs=inputs,
            sources=sources,
            after=_after(recipe),
        )


def _evals(recipe: Recipe) -> Iterator[Target]:
    if not recipe.suites:
        return
    head = "reward" if recipe.train.objective == "reward" else None
    params = params_of("eval", suites=recipe.suites, head=head)
    timed = params_of(
        "eval", suites=recipe.suites, head=head, **_times([gate for gate in recipe.gates if gate.scope is None])
    )
    sources = {"base": _base(recipe)} | _suite_files(recipe.suites)
    yield Target("eval.base", "eval", params, inputs={"data": "data"}, sources=sources)
    yield Target(
        "eval.tuned", "eval", timed, inputs={"data": "data", "adapter": trained_target(recipe)}, sources=sources
    )


def _times(gates: list[Gate]) -> dict[str, Any]:
    """A gate on a time needs more than a glance: an upper bound of the 95th percentile takes 72 answers."""
    return {"latency_rows": 100, "latency_limit": 120.0} if any(gate.timed for gate in gates) else {}


def _probe(recipe: Recipe) -> Iterator[Target]:
    if recipe.is_probed:
        params = params_of("probe", **_fields(recipe.probe))
        yield Target(
            "probe",
            "probe",
            params,
            inputs={"adapter": trained_target(recipe), "data": "data"},
            sources={"base": _base(recipe)},
        )


def _gate(recipe: Recipe) -> Iterator[Target]:
    checks = [gate for gate in recipe.gates if gate.scope is None]
    if checks:
        params = params_of("gate", checks=checks, undecided=recipe.gate.undecided)
        inputs = {"base": "eval.base", "tuned": "eval.tuned"} if recipe.suites else {}
        inputs |= {target.name: target.name for target in _probe(recipe)}
        yield Target("gate", "gate", params, inputs=inputs)


def _imatrix(recipe: Recipe) -> Target:
    return Target(
        "imatrix",
        "imatrix",
        params_of("imatrix"),
        inputs={"data": "data", "adapter": trained_target(recipe)},
        sources={"base": _base(recipe)},
        after=_after(recipe),
    )


def _export(recipe: Recipe, name: str) -> Target:
    format_, _, type_ = name.partition("-")
    options, inputs, sources = _asked_of(recipe, name)
    quantizer = options.pop("quantizer", None)  # it changes no byte, so it stands beside the options
    fields = {"format": format_, "type": type_, "merge_base": recipe.merge_base, "quantizer": quantizer}
    return Target(
        f"export.{name}",
        "export",
        params_of("export", **fields, options=options),
        inputs={"adapter": trained_target(recipe)} | inputs | _choice(recipe, name),
        sources={"base": _base(recipe)} | sources,
        after=_after(recipe),
        judged_by=f"verify.{name}",
    )


def _asked_of(recipe: Recipe, name: str) -> tuple[dict[str, Any], dict[str, str], dict[str, Source]]:
    """An export's options, and the input or the source that its importance matrix is."""
    options = recipe.export[name].model_dump(exclude_none=True)  # type: ignore[index]
    imatrix = options.pop("imatrix", None)
    if "tensor_types" in options:  # a list: the first pattern that is found counts, so their order is part of it
        options["tensor_types"] = list(options["tensor_types"].items())
    if isinstance(imatrix, str):
        return options, {}, {"imatrix": Source("file", imatrix)}
    return options, {"imatrix": "imatrix"} if imatrix else {}, {}


def _verify(recipe: Recipe, name: str) -> Target:
    checks = [gate for gate in recipe.gates if gate.scope == name]
    suites = verified_suites(recipe, checks)
    params = params_of(
        "verify",
        rows=verified_split(recipe),
        limit=_compared(recipe),
        suites=suites,
        checks=checks,
        undecided=recipe.gate.undecided,
        **_times(checks),
    )
    inputs = {"export": f"export.{name}", "adapter": trained_target(recipe), "data": "data"}
    if recipe.suites:
        inputs["tuned"] = "eval.tuned"
    sources = {"base": _base(recipe)} | _suite_files(suites)
    return Target(f"verify.{name}", "verify", params, inputs=inputs, sources=sources)


def _report(recipe: Recipe, targets: list[Target]) -> Target:
    fields = {**_fields(recipe.report), "title": recipe.report.title or recipe.name}
    inputs = {target.name: target.name for target in targets}
    return Target("report", "report", params_of("report", **fields), inputs=inputs, lenient=True)


def _compared(recipe: Recipe) -> int | None:
    """Rows compared by logits; of a head for labels all, where the recipe does not say: one word is read for a row."""
    if recipe.train.objective == LABELLED and "limit" not in recipe.verify.model_fields_set:
        return None
    return recipe.verify.limit


def verified_split(recipe: Recipe) -> str:
    """The split whose rows an exported file is compared on."""
    if recipe.verify.rows is not None:
        return recipe.verify.rows
    return next((split for split in reversed(SPLITS) if recipe.has_split(split)), "train")


def verified_suites(recipe: Recipe, checks: list[Gate]) -> dict[str, Suite]:
    """The suites run again on an exported file: those asked for, else those on the recipe's own rows; and those
    that its gates name."""
    chosen = recipe.verify.suites
    named = {gate.suite.partition("/")[0] for gate in checks if gate.suite}
    return {
        name: suite
        for name, suite in recipe.suites.items()
        if name in named or (suite.rows not in BUILTIN_ROWS if chosen is None else name in chosen)
    }


def _after(recipe: Recipe) -> tuple[str, ...]:
    return ("gate",) if any(gate.scope is None for gate in recipe.gates) else ()


def base_ref(recipe: Recipe) -> str:
    """The reference of what is tuned: the base model, with the tokens that are added to it."""
    return grown.joined(recipe.base_model, recipe.added_tokens)


def _base(recipe: Recipe) -> Source:
    return Source("model", base_ref(recipe))


def _suite_files(suites: dict[str, Suite]) -> dict[str, Source]:
    found = {f"suites.{key}": Source("file", path) for key, path in suite_files(suites)}
    folders = {f"suites.{name}.include_path": suite.include_path for name, suite in suites.items()}
    return found | {role: Source("folder", path) for role, path in folders.items() if path is not None}
