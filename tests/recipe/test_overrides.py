"""`--set KEY=VALUE`; what is refused is in tests/golden/recipe/set_*."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edgeft.errors import EdgeftError, RecipeError
from edgeft.recipe import load
from edgeft.recipe.overrides import apply
from edgeft.recipe.tree import read_text

RECIPE = """base_model: builtin:sprout
data:
  datasets: [{path: rows.jsonl}, {path: more.jsonl}]
  test: [{path: test.jsonl}]
train: {lora_r: 8}
gate: [task.loss <= 3]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("phases", [("0", "1"), ("words", "choice")])
def test_a_phase_by_name_or_number(path: Path, phases: tuple[str, str]) -> None:
    train = "train: [{name: words}, {name: choice, objective: dpo, previous: merge}]"
    path.write_text(RECIPE.replace("train: {lora_r: 8}", train))
    recipe = load(path, [f"train.{phases[0]}.max_steps=4", f"train.{phases[1]}.lora_r=2"])
    assert [(phase.max_steps, phase.lora_r) for phase in recipe.phases] == [(4, 16), (None, 2)]
    assert str(recipe.location_of("earlier_phases.0.max_steps")).startswith("--set")
    with pytest.raises(RecipeError, match="unknown key '2' in train"):
        load(path, ["train.2.max_steps=4"])


def test_kinds_of_values(path: Path) -> None:
    recipe = load(
        path,
        [
            "train.learning_rate=1e-4",
            "train.gradient_checkpointing=true",
            "train.lora_target_modules=[q_proj, v_proj]",
            "train.max_steps = 12",
            "data.datasets.1.path=else.jsonl",
            "data.chat_template='a b.jinja'",
            "eval.suites.own={rows: test, limit: 3}",
            "gate=[own.loss <= 3]",
            "export=[gguf-f16]",
            "export.onnx-int4.block_size=64",
        ],
    )
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.gradient_checkpointing is True
    assert recipe.train.lora_target_modules == ["q_proj", "v_proj"]
    assert recipe.train.max_steps == 12
    assert recipe.train.lora_r == 8
    assert [entry.path for entry in recipe.data.datasets] == ["rows.jsonl", "else.jsonl"]
    assert recipe.data.chat_template == "a b.jinja"
    assert recipe.suites["own"].limit == 3
    assert list(recipe.export) == ["gguf-f16", "onnx-int4"]


def test_the_last_one_wins_and_null_unsets(path: Path) -> None:
    recipe = load(path, ["train.max_steps=1", "train.max_steps=2", "train.eval_steps=null"])
    assert recipe.train.max_steps == 2
    assert recipe.train.eval_steps is None


def test_merge_base_alone_writes_no_merged_checkpoint(path: Path) -> None:
    recipe = load(path, ["merge.merge_base=pristine"])
    assert (recipe.merge.write, recipe.merge_base) == (False, "pristine")
    assert load(path, ["merge=true", "merge.merge_base=pristine"]).merge.write


def test_a_whole_section(path: Path) -> None:
    assert load(path, ["train={adapter: lora}"]).train.lora_r == 16
    with pytest.raises(RecipeError, match="unknown key 'lorar' in train") as caught:
        load(path, ["train={lorar: 3}"])
    assert str(caught.value.where) == "--set train={lorar: 3}"


def test_an_empty_recipe_can_be_made_of_overrides(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    recipe = load(tmp_path / "recipe.yaml", ["base_model=builtin:sprout", "data={datasets: [{path: x}]}"])
    assert recipe.base_model == "builtin:sprout"


names = st.text("abc_d1", min_size=1, max_size=4)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), names, st.lists(st.integers(), max_size=3)
)


def flow(value: Any) -> str:
    """A value as ruamel.yaml itself writes it on one line."""
    yaml, stream = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = True
    yaml.dump([value], stream)
    return stream.getvalue().strip()[1:-1]


@given(st.lists(names, min_size=1, max_size=4), values)
def test_what_is_set_is_found_at_its_path_and_place(parts: list[str], value: Any) -> None:
    tree = read_text("kept: [1]\n", "r.yaml")
    written = flow(value)
    apply(tree, f"{'.'.join(parts)}={written}")
    found: Any = tree.value
    for part in parts:
        found = found[part]
    assert found == value
    assert tree.value["kept"] == [1]
    assert str(tree.values[tuple(parts)]).startswith(f"--set {parts[0]}")


@given(st.text(max_size=30))
def test_any_text_sets_something_or_is_refused(text: str) -> None:
    tree = read_text("train: {lora_r: 8}\nseed: 1\nlist: [1, 2]\n", "r.yaml")
    told = "--set "
    try:
        apply(tree, text)
    except EdgeftError as error:
        told = str(error)
    assert told.startswith("--set ")
