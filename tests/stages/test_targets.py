"""From a recipe to its targets: which, with what parameters, reading what; and that no setting is lost on the way."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from edgeft.data import templates
from edgeft.data.faults import POLICIES
from edgeft.data.formats import FORMATS as FORMS
from edgeft.evals.fidelity import FIDELITY as MEASURED
from edgeft.evals.metrics import METRICS as METRIC_TABLE
from edgeft.evals.suites import BUILTINS
from edgeft.exporters import EXPORTS as FORMATS
from edgeft.pipeline.fingerprint import canonical_params
from edgeft.pipeline.graph import Graph
from edgeft.pipeline.stage import Source, Target
from edgeft.recipe import Recipe, load, names
from edgeft.recipe.dataset import ChecksSection
from edgeft.recipe.keys import every_key
from edgeft.stages import STAGES
from edgeft.stages.targets import params_of, targets_of

FULL = """base_model: ./base
seed: 5
data:
  datasets: [{path: a.jsonl}, {path: b.jsonl, type: prompt_completion}]
  validation: [{path: v.jsonl}]
  test: [{path: t.jsonl}]
  chat_template: chat.jinja
merge: true
eval:
  suites:
    task: {rows: test}
    own: {rows: own.jsonl, limit: 3}
    general: {rows: "builtin:general"}
gate:
  - task.exact_match >= 0.9
  - gguf-q8_0.task.exact_match drop <= 0.01
  - gguf-q8_0.mean_kl <= 0.1
  - onnx-int4.general.loss rise <= 3%
export: {gguf-q8_0: {max_shard_size: 5GB}, onnx-int4: {block_size: 64}}
"""


def recipe(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(text)
    return load(tmp_path / "recipe.yaml", overrides)


def targets(tmp_path: Path, text: str = FULL, *overrides: str) -> dict[str, Target]:
    found = targets_of(recipe(tmp_path, text, *overrides))
    Graph(found).order([target.name for target in found])  # every reference is a target, and there is no circle
    return {target.name: target for target in found}


def test_all_of_them_in_the_order_of_the_work(tmp_path: Path) -> None:
    assert list(targets(tmp_path)) == [
        "data",
        "train",
        "eval.base",
        "eval.tuned",
        "probe",
        "gate",
        "merge",
        "export.gguf-q8_0",
        "verify.gguf-q8_0",
        "export.onnx-int4",
        "verify.onnx-int4",
        "report",
    ]


def test_what_each_reads(tmp_path: Path) -> None:
    found = targets(tmp_path)
    base = Source("model", "./base")
    own = {"base": base, "suites.own": Source("file", "own.jsonl")}
    assert found["data"].sources == {
        "base": base,
        "datasets.0": Source("file", "a.jsonl"),
        "datasets.1": Source("file", "b.jsonl"),
        "validation.0": Source("file", "v.jsonl"),
        "test.0": Source("file", "t.jsonl"),
        "chat_template": Source("file", "chat.jinja"),
    }
    assert (found["train"].inputs, found["train"].sources) == ({"data": "data"}, {"base": base})
    assert (found["eval.base"].inputs, found["eval.base"].sources) == ({"data": "data"}, own)
    assert (found["eval.tuned"].inputs, found["eval.tuned"].sources) == ({"data": "data", "adapter": "train"}, own)
    assert found["gate"].inputs == {"base": "eval.base", "tuned": "eval.tuned", "probe": "probe"}
    assert (found["probe"].inputs, found["probe"].sources) == ({"adapter": "train", "data": "data"}, {"base": base})
    assert (found["merge"].inputs, found["merge"].after) == ({"adapter": "train"}, ("gate",))
    export = found["export.gguf-q8_0"]
    assert (export.inputs, export.after, export.judged_by) == ({"adapter": "train"}, ("gate",), "verify.gguf-q8_0")
    assert found["verify.gguf-q8_0"].inputs == {
        "export": "export.gguf-q8_0",
        "adapter": "train",
        "data": "data",
        "tuned": "eval.tuned",
    }
    assert found["report"].lenient
    assert set(found["report"].inputs) == set(found) - {"report"}


def test_an_imatrix_of_the_training_rows_is_a_target_of_its_own(tmp_path: Path) -> None:
    exports = ("gguf-q4_k_m: {imatrix: true}", "gguf-iq2_xxs: {imatrix: true}", "gguf-q8_0: ")
    two = f"export={{{', '.join(exports)}, gguf-iq4_xs: {{imatrix: m.gguf}}}}"
    found = targets(tmp_path, FULL, two, "gate=[task.exact_match >= 0.9]")
    assert [name for name in found if found[name].stage == "imatrix"] == ["imatrix"]
    assert (found["imatrix"].inputs, found["imatrix"].after) == ({"data": "data", "adapter": "train"}, ("gate",))
    for name in ("export.gguf-q4_k_m", "export.gguf-iq2_xxs"):
        assert found[name].inputs == {"adapter": "train", "imatrix": "imatrix"}
        assert set(found[name].sources) == {"base"}
    assert found["export.gguf-q8_0"].inputs == found["export.gguf-iq4_xs"].inputs == {"adapter": "train"}
    assert found["export.gguf-iq4_xs"].sources["imatrix"] == Source("file", "m.gguf")
    assert all("imatrix" not in found[name].params.options for name in found if found[name].stage == "export")  # type: ignore[attr-defined]


def test_the_order_of_patterns_is_part_of_an_export(tmp_path: Path) -> None:
    """The first that is found in a name counts, so another order is another file."""
    one, other = (
        targets(tmp_path, FULL, f"export.gguf-q8_0.tensor_types={{{pairs}}}")["export.gguf-q8_0"].params
        for pairs in ("attn: q4_k, attn_q: q6_k", "attn_q: q6_k, attn: q4_k")
    )
    assert one.model_dump_json() != other.model_dump_json()


def test_gate_lines_go_where_they_judge(tmp_path: Path) -> None:
    found = targets(tmp_path)
    assert [gate.text for gate in found["gate"].params.checks] == ["task.exact_match >= 0.9"]  # type: ignore[attr-defined]
    params: Any = found["verify.gguf-q8_0"].params
    assert [gate.metric for gate in params.checks] == ["exact_match", "mean_kl"]
    assert set(params.suites) == {"task", "own"}
    params = found["verify.onnx-int4"].params
    assert [gate.metric for gate in params.checks] == ["loss"]
    assert set(params.suites) == {"task", "own", "general"}, "a gate names the general suite"
    assert params.rows == "test"


def test_what_a_path_of_rows_names(tmp_path: Path) -> None:
    """A file is a source as it is; a glob, a folder and a hub id are rows; a sample is no part of the path."""
    listed = "[{path: a.jsonl#5}, {path: 'parts/*.jsonl'}, {path: folder}, {path: org/name@main#7}]"
    found = targets(tmp_path, FULL, f"data.datasets={listed}")["data"].sources
    assert [found[f"datasets.{number}"] for number in range(4)] == [
        Source("file", "a.jsonl"),
        Source("rows", "parts/*.jsonl"),
        Source("rows", "folder"),
        Source("rows", "org/name@main"),
    ]


def test_a_named_template_is_no_file(tmp_path: Path) -> None:
    found = targets(tmp_path, FULL, "data.chat_template=chatml")["data"]
    assert "chat_template" not in found.sources
    assert found.params.chat_template == "chatml"  # type: ignore[attr-defined]


def test_without_gates_nothing_waits(tmp_path: Path) -> None:
    found = targets(tmp_path, FULL, "gate=[]")
    assert "gate" not in found
    assert found["export.gguf-q8_0"].after == found["merge"].after == ()


def test_the_shortest_recipe(tmp_path: Path) -> None:
    text = "base_model: x\ndata: {datasets: [{path: a.jsonl}]}\nexport: [gguf-f16]\n"
    found = targets(tmp_path, text)
    assert list(found) == ["data", "train", "probe", "export.gguf-f16", "verify.gguf-f16", "report"]
    params: Any = found["verify.gguf-f16"].params
    assert (params.rows, params.suites) == ("train", {})
    assert "tuned" not in found["verify.gguf-f16"].inputs
    assert targets(tmp_path, text, "data.val_set_size=3")["verify.gguf-f16"].params.rows == "validation"  # type: ignore[attr-defined]


def test_chosen_suites_and_rows_of_verify(tmp_path: Path) -> None:
    found = targets(tmp_path, FULL, "verify={suites: [own], rows: validation, limit: null}")
    params: Any = found["verify.gguf-q8_0"].params
    assert set(params.suites) == {"task", "own"}, "a gate names task"
    assert (params.rows, params.limit) == ("validation", None)


# Key -> a value that is not the default; and which targets' parameters must change with it.
EVALS, FILES = {"eval.base", "eval.tuned"}, {"verify.gguf-q8_0", "verify.onnx-int4"}
MADE = {"merge", "export.gguf-q8_0", "export.onnx-int4"}
OVERRIDES: dict[str, tuple[str, set[str]]] = {
    "base_model": ("./other", {"data", "train", "probe", *EVALS, *MADE, *FILES}),
    "added_tokens": ("['<a>']", {"data", "train", "probe", *EVALS, *MADE, *FILES}),
    "seed": ("6", {"data", "train"}),
    "data.datasets.*.path": ("c.jsonl", {"data"}),
    "data.datasets.*.type": ("prompt_completion", {"data"}),
    "data.validation.*.path": ("c.jsonl", {"data"}),
    "data.validation.*.type": ("prompt_completion", {"data"}),
    "data.test.*.path": ("c.jsonl", {"data"}),
    "data.test.*.type": ("prompt_completion", {"data"}),
    "data.datasets": ("[{path: c.jsonl}]", {"data"}),
    "data.validation": ("[{path: c.jsonl}]", {"data"}),
    "data.test": ("[{path: c.jsonl}]", {"data"}),
    "data.sequence_len": ("64", {"data"}),
    "data.chat_template": ("other.jinja", {"data"}),
    "data.roles_to_train": ("[assistant, user]", {"data"}),
    "data.sample_packing": ("true", {"data"}),
    "merge.merge_base": ("pristine", MADE),
    "eval.suites.*.rows": ("validation", {*EVALS, *FILES}),
    "eval.suites.*.metrics": ("[exact_match, json_match]", {*EVALS, *FILES}),
    "eval.suites.*.max_tokens": ("7", {*EVALS, *FILES}),
    "eval.suites.*.limit": ("7", {*EVALS, *FILES}),
    "eval.suites.*.type": ("messages", {*EVALS, *FILES}),
    "eval.suites.*.system": ("Be brief.", {*EVALS, *FILES}),
    "eval.suites.*.few_shot": ("3", {*EVALS, *FILES}),
    "eval.suites.*.few_shot_rows": ("train", {*EVALS, *FILES}),
    "eval.suites.*.few_shot_seed": ("3", {*EVALS, *FILES}),
    "eval.suites.*.stop": ("[END]", {*EVALS, *FILES}),
    "eval.suites.*.chat": ("false", {*EVALS, *FILES}),
    "eval.suites.*.few_shot_multiturn": ("false", {*EVALS, *FILES}),
    "eval.suites.*.pattern": ("x", {*EVALS, *FILES}),
    "eval.suites.*.json_schema": ("s.json", {*EVALS, *FILES}),
    "eval.suites.*.judge": ("{base_url: 'http://localhost/v1', model: m}", {*EVALS, *FILES}),
    "eval.suites.*.window": ("64", {*EVALS, *FILES}),
    "eval.suites.*.overlap": ("8", {*EVALS, *FILES}),
    "probe.rows": ("9", {"probe"}),
    "probe.drift": ("false", {"probe"}),
    "gate.checks": ("[task.exact_match >= 0.8]", {"gate", *FILES}),
    "gate.undecided": ("fail", {"gate", *FILES}),
    "export.*.imatrix": ("own.gguf", {"export.gguf-q8_0"}),
    "export.*.tensor_types": ("{attn: q4_k}", {"export.gguf-q8_0"}),
    "export.*.token_embedding_type": ("q4_k", {"export.gguf-q8_0"}),
    "export.*.output_tensor_type": ("q4_k", {"export.gguf-q8_0"}),
    "export.*.max_shard_size": ("2GB", {"export.gguf-q8_0"}),
    "export.*.quantizer": ("ggml", {"export.gguf-q8_0"}),
    "export.*.backend": ("optimum", {"export.onnx-int4"}),
    "export.*.builder": ("stock", {"export.onnx-int4"}),
    "export.*.device": ("mobile", {"export.onnx-int4"}),
    "export.*.provider": ("webgpu", {"export.onnx-int4"}),
    "export.*.adapter": ("apart", {"export.onnx-int4"}),
    "export.*.layout": ("transformers.js", {"export.onnx-int4"}),
    "export.*.symmetric": ("false", {"export.onnx-int4"}),
    "export.*.block_size": ("128", {"export.onnx-int4"}),
    "export.*.accuracy_level": ("1", {"export.onnx-int4"}),
    "export.*.algorithm": ("rtn", {"export.onnx-int4"}),
    "export.*.layers": ("int8", {"export.onnx-int4"}),
    "export.*.head": ("same", {"export.onnx-int4"}),
    "export.*.embeddings": ("float", {"export.onnx-int4"}),
    "export.*.max_length": ("99", {"export.onnx-int4"}),
    "verify.rows": ("train", FILES),
    "verify.limit": ("9", FILES),
    "verify.suites": ("[own]", {"verify.onnx-int4"}),
    "report.title": ("Mine", {"report"}),
    "report.samples": ("3", {"report"}),
}
TRAIN = {
    "adapter": "lora",
    "lora_r": "4",
    "lora_alpha": "4",
    "lora_dropout": "0.5",
    "lora_target_modules": "[q_proj]",
    "micro_batch_size": "3",
    "gradient_accumulation_steps": "3",
    "num_epochs": "7",
    "max_steps": "7",
    "learning_rate": "1e-5",
    "lr_scheduler": "linear",
    "warmup_ratio": "0.5",
    "weight_decay": "0.5",
    "max_grad_norm": "0.5",
    "optimizer": "adafactor",
    "gradient_checkpointing": "true",
    "neftune_noise_alpha": "5",
    "early_stopping_patience": "2",
    "eval_steps": "7",
    "save_steps": "7",
    "logging_steps": "7",
    "threads": "2",
    "compute_dtype": "bfloat16",
}
ENTRY = {
    "fields": "{prompt: question}",
    "weight": "2.0",
    "split": "held",
    "subset": "small",
    "system": "Be brief.",
}
OVERRIDES |= {
    f"data.{split}.*.{key}": (value, {"data"})
    for split in ("datasets", "validation", "test")
    for key, value in ENTRY.items()
}
OVERRIDES |= {f"data.checks.{check}": ("error", {"data"}) for check in ChecksSection.model_fields}
OVERRIDES |= {
    f"data.checks.{check}": ("drop", {"data"})
    for check, info in ChecksSection.model_fields.items()
    if info.default == "error"
}
OVERRIDES |= {"data.near_threshold": ("0.5", {"data"}), "data.labels": ("[a, b]", {"data"})}
TRAIN |= {
    "bnb_4bit_quant_type": "fp4",
    "bnb_4bit_use_double_quant": "false",
    "lora_layers": "[0, 1]",
    "lora_init": "gaussian",
    "use_rslora": "true",
    "use_dora": "true",
    "loraplus_lr_ratio": "4",
    "trainable_tokens": "[a]",
    "tokens_per_step": "99",
    "min_lr_ratio": "0.5",
    "use_liger": "true",
    "keep_best": "true",
    "max_loss_ratio": "3",
    "sample_answers": "2",
    "save_total_limit": "2",
    "report_to": "[wandb]",
}
# Keys of some objectives: the value, and what makes it one of theirs.
OF_OBJECTIVES = {
    "train.objective": ["cpt"],
    "train.beta": ["0.5", "objective=dpo"],
    "train.dpo_loss": ["ipo", "objective=dpo"],
    "train.label_smoothing": ["0.1", "objective=dpo"],
    "train.desirable_weight": ["2", "objective=kto"],
    "train.undesirable_weight": ["2", "objective=kto"],
    "train.rewards": ["[{type: exact_match}, {type: exact_match}]", "objective=grpo", "rewards=[{type: exact_match}]"],
    "train.num_generations": ["3", "objective=grpo", "rewards=[{type: exact_match}]"],
    "train.max_completion_length": ["3", "objective=grpo", "rewards=[{type: exact_match}]"],
    "train.temperature": ["0.5", "objective=grpo", "rewards=[{type: exact_match}]"],
    "train.grpo_loss": ["bnpo", "objective=grpo", "rewards=[{type: exact_match}]"],
    "train.class_weights": ["balanced", "objective=classification"],
    "train.teacher": ["builtin:sprout", "objective=distill", "teacher=other"],
    "train.distill_kl": ["reverse", "objective=distill", "teacher=builtin:sprout"],
    "train.distill_temperature": ["2", "objective=distill", "teacher=builtin:sprout"],
    "train.distill_alpha": ["0.5", "objective=distill", "teacher=builtin:sprout"],
}
REWARDS = {
    "pattern": "type: regex, pattern: a+",
    "path": "type: json_schema, path: schema.json",
    "allow_code": "type: python, path: mine.py, allow_code: true",
}
OVERRIDES |= {f"train.{key}": (value, {"train"}) for key, value in TRAIN.items()}
OVERRIDES["train.adapter"] = ("lora", {"train", *MADE})  # the merge base follows from it
# Sections, told by their keys; sizes that exclude the splits above; and what decides which targets there are.
STRUCTURE = {
    "data",
    "data.checks",
    "train",
    "merge",
    "eval",
    "eval.suites",
    "probe",
    "gate",
    "export",
    "verify",
    "report",
    "merge.write",
}
# Tried by tests/evals/test_judge.py, by test_the_kind_of_a_suite_decides_its_metrics and by the one after it.
KIND = {"eval.suites.*.kind", "eval.suites.*.include_path"}
JUDGE = {f"eval.suites.*.judge.{key}" for key in ("base_url", "model", "prompt", "scale", "max_tokens", "api_key_env")}
SIZES = {"data.val_set_size": "data.validation", "data.test_set_size": "data.test"}
PLACES = {"data.datasets.*": "data.datasets.0", "eval.suites.*": "eval.suites.task", "export.*": "export.onnx-int4"}
OF_GGUF = {"imatrix", "tensor_types", "token_embedding_type", "output_tensor_type", "max_shard_size", "quantizer"}


def filled(key: str) -> str:
    if key.rpartition(".")[2] in OF_GGUF:
        return key.replace("*", "gguf-q8_0")
    for pattern, place in PLACES.items():
        key = key.replace(pattern, place)
    return key.replace(".*", ".0")


def changed(before: dict[str, Target], after: dict[str, Target]) -> set[str]:
    return {
        name
        for name in before
        if (before[name].params, before[name].sources) != (after[name].params, after[name].sources)
    }


def test_every_key_of_the_schema_is_tried_below() -> None:
    phases = {key for key in every_key() if key.startswith(("earlier_phases", "train.data"))}  # in test_phases.py
    phases |= {"train.name", "train.previous"}
    tried = (
        set(OVERRIDES) | set(OF_OBJECTIVES) | STRUCTURE | set(SIZES) | KIND | JUDGE | {"export.*.with_base"} | phases
    )
    assert set(every_key()) == tried | {f"train.rewards.*.{key}" for key in ("type", "weight", *REWARDS)}


@pytest.mark.parametrize("key", OF_OBJECTIVES)
def test_each_key_of_an_objective_reaches_the_training(key: str, tmp_path: Path) -> None:
    value, *more = OF_OBJECTIVES[key]
    given = [f"train.{entry}" for entry in more if f"train.{entry}".partition("=")[0] != key]
    plain = FULL.partition("merge:")[0] if "objective=classification" in more else FULL
    start = [f"train.{entry}" for entry in more] if key in ("train.rewards", "train.teacher") else given
    before, after = targets(tmp_path, plain, *start), targets(tmp_path, plain, *given, f"{key}={value}")
    found = changed(before, after)
    assert "train" in found
    assert found <= {"train", "data"}


@pytest.mark.parametrize("key", REWARDS)
def test_each_key_of_a_reward_reaches_the_training(key: str, tmp_path: Path) -> None:
    written = REWARDS[key]
    target = targets(tmp_path, FULL, "train.objective=grpo", f"train.rewards=[{{{written}, weight: 3}}]")["train"]
    (reward,) = target.params.rewards  # type: ignore[attr-defined]
    assert getattr(reward, key)
    assert reward.weight == 3
    assert ("rewards.0" in target.sources) == (reward.path is not None)


def test_a_teacher_is_a_source(tmp_path: Path) -> None:
    target = targets(tmp_path, FULL, "train.objective=distill", "train.teacher=builtin:sprout")["train"]
    assert target.sources["teacher"].ref == "builtin:sprout"


def test_who_quantizes_builds_nothing_again(tmp_path: Path) -> None:
    one = targets(tmp_path, FULL, "export.gguf-q8_0.quantizer=ggml")["export.gguf-q8_0"].params
    other = targets(tmp_path, FULL, "export.gguf-q8_0.quantizer=fast")["export.gguf-q8_0"].params
    assert one != other
    assert canonical_params(one) == canonical_params(other)


def test_the_kind_of_a_suite_decides_its_metrics(tmp_path: Path) -> None:
    params: Any = targets(tmp_path, FULL, "eval.suites.own.kind=perplexity")["eval.tuned"].params
    assert params.suites["own"].metrics == ["perplexity", "bits_per_byte"]
    assert params.suites["own"].kind == "perplexity"


def test_a_folder_of_tasks_is_a_source(tmp_path: Path) -> None:
    given = ["eval.suites.task.rows=lm-eval:mine", "eval.suites.task.include_path=tasks"]
    target = targets(tmp_path, FULL.partition("gate:")[0], *given)["eval.tuned"]
    source = target.sources["suites.task.include_path"]
    assert (source.kind, source.ref) == ("folder", "tasks")


def test_the_base_beside_an_adapter(tmp_path: Path) -> None:
    text = FULL.replace("onnx-int4:", "lora-f16: {with_base: q8_0}, onnx-int4:")
    params: Any = targets(tmp_path, text)["export.lora-f16"].params
    assert (params.format, params.type, params.options) == ("lora", "f16", {"with_base": "q8_0"})


@pytest.mark.parametrize("key", OVERRIDES)
def test_each_key_reaches_its_targets_and_no_other(key: str, tmp_path: Path) -> None:
    value, wanted = OVERRIDES[key]
    before = targets(tmp_path)
    assert changed(before, targets(tmp_path, FULL, f"{filled(key)}={value}")) == wanted


@pytest.mark.parametrize("key", SIZES)
def test_sizes_reach_the_data_stage(key: str, tmp_path: Path) -> None:
    without = f"{SIZES[key]}=[]"
    before = targets(tmp_path, FULL, without, f"{key}=10")
    assert changed(before, targets(tmp_path, FULL, without, f"{key}=11")) == {"data"}


def test_merge_write_decides_whether_there_is_a_merge(tmp_path: Path) -> None:
    assert "merge" not in targets(tmp_path, FULL, "merge.write=false")


def test_a_stage_that_does_not_know_a_field_is_a_bug_not_a_lost_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Params(BaseModel):
        title: str = ""

    monkeypatch.setattr(importlib.import_module("edgeft.stages.report"), "Params", Params)
    with pytest.raises(TypeError, match="the stage 'report' does not take samples"):
        params_of("report", title="x", samples=3)


@pytest.mark.parametrize("kind", STAGES)
def test_every_stage_has_what_the_pipeline_reads(kind: str) -> None:
    module = importlib.import_module(STAGES[kind].target)
    assert isinstance(module.VERSION, int)
    assert issubclass(module.Params, BaseModel)
    assert callable(module.run)


def test_the_names_of_recipes_are_those_of_the_tables() -> None:
    assert set(names.DATA_TYPES) == set(FORMS)
    assert list(names.TEMPLATES) == templates.names()
    assert {name: info.default for name, info in ChecksSection.model_fields.items()} == POLICIES
    types = {"gguf": "gguf.types", "lora": "gguf.lora", "onnx": "onnx.options"}
    exports = {
        f"{format_}-{type_}"
        for format_ in FORMATS
        for type_ in importlib.import_module(f"edgeft.exporters.{types[format_]}").TYPES
    }
    assert set(names.EXPORTS) == exports
    gguf = importlib.import_module("edgeft.exporters.gguf.types")
    assert set(names.PLAIN_GGUF) == {f"gguf-{name}" for name, kind in gguf.TYPES.items() if kind.plain}
    assert set(names.NEED_IMATRIX) == {f"gguf-{name}" for name, kind in gguf.TYPES.items() if kind.imatrix}
    assert names.TENSOR_TYPES == gguf.TENSOR_TYPES
    assert names.TENSORS_NEED_IMATRIX == gguf.NEED_IMATRIX
    assert set(names.METRICS) == set(METRIC_TABLE)
    assert {name: metric.kinds for name, metric in METRIC_TABLE.items()} == names.METRIC_KINDS
    assert set(names.FIDELITY) == set(MEASURED)
    assert set(names.BUILTIN_ROWS) == {f"builtin:{name}" for name in BUILTINS}


def values(annotation: Any) -> set[Any]:
    """The plain types and literal values in a field's type, None left out."""
    inner = get_args(annotation)
    found = set().union(*map(values, inner)) if inner else {annotation}
    return found - {type(None)}


def test_the_options_of_onnx_are_those_of_its_exporter() -> None:
    from edgeft.exporters.onnx.options import OnnxOptions
    from edgeft.recipe.shipping import ExportOptions

    of_onnx = set(OnnxOptions.model_fields) - {"threads", "check"}  # of the command line: a recipe's files are verified
    assert set(ExportOptions.model_fields) == of_onnx | OF_GGUF | {"with_base"}
    for name in of_onnx:
        info = ExportOptions.model_fields[name]
        assert values(info.annotation) == values(OnnxOptions.model_fields[name].annotation), name
