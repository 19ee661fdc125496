"""Loading a recipe: short forms, defaults, places, paths, and that it is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.errors import Errors, Location, RecipeError
from edgeft.recipe import Recipe, load
from edgeft.recipe.shipping import MergeSection

START = "base_model: builtin:sprout\ndata:\n  datasets: [{path: rows.jsonl}]\n"


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def writer(text: str) -> Path:
        (tmp_path / "my recipe.yaml").write_text(text)
        return tmp_path / "my recipe.yaml"

    return writer


def test_the_shortest_recipe(write) -> None:  # type: ignore[no-untyped-def]
    recipe = load(write(START))
    assert recipe.name == "my recipe"
    assert recipe.seed == 0
    assert recipe.train.adapter == "qlora"
    assert recipe.train.learning_rate == 2e-4
    assert recipe.merge == MergeSection(write=False)
    assert recipe.suites == {}
    assert recipe.gates == []
    assert recipe.export == {}


def test_it_remembers_its_places(write, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    path = write(
        START + "  test: [{path: more.jsonl}]\ngate:\n  - task.loss <= 3\nexport: [gguf-f16]\ntrain: [{lora_r: 8}]\n"
    )
    monkeypatch.chdir(path.parent)
    recipe = load(path.name, ["seed=3"])
    assert recipe.location_of("data.datasets.0.path") == Location("my recipe.yaml", 3, 21)
    assert recipe.location_of("data.datasets.0.type") == Location("my recipe.yaml", 3, 14)
    assert recipe.location_of("gate.checks.0") == Location("my recipe.yaml", 6, 5)
    assert recipe.location_of("export.gguf-f16") == Location("my recipe.yaml", 7, 10)
    assert recipe.location_of("train.lora_r") == Location("my recipe.yaml", 8, 18)
    assert recipe.location_of("seed") == Location("--set seed=3")
    assert recipe.location_of("verify.rows") == Location("my recipe.yaml", 1, 1)
    assert recipe.path == path
    assert recipe.resolve("rows.jsonl") == path.parent / "rows.jsonl"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("merge: true", (True, "dequantized")),
        ("merge: false", (False, "dequantized")),
        ("merge: {merge_base: pristine}", (True, "pristine")),
        ("merge: {write: false, merge_base: pristine}", (False, "pristine")),
        ("train: {adapter: lora}", (False, "pristine")),
        ("train: {adapter: lora}\nmerge: {merge_base: pristine}", (True, "pristine")),
        ("train:", (False, "dequantized")),
    ],
)
def test_merge(write, text: str, wanted: tuple[bool, str]) -> None:  # type: ignore[no-untyped-def]
    recipe = load(write(START + text))
    assert (recipe.merge.write, recipe.merge_base) == wanted


def test_forms_of_gate_and_export(write) -> None:  # type: ignore[no-untyped-def]
    more = START + "  test: [{path: test.jsonl}]\n"
    short = load(write(more + "gate: [task.loss <= 3]\nexport: [gguf-f16, onnx-int4]\n"))
    long = load(write(more + "gate: {checks: [task.loss <= 3]}\nexport: {gguf-f16: , onnx-int4: {}}\n"))
    assert short.model_dump() == long.model_dump()
    assert list(short.suites) == ["task"]
    chosen = load(write(more + "gate: {checks: [], undecided: fail}\nexport: {onnx-int4: {block_size: 64}}\n"))
    assert chosen.gate.undecided == "fail"
    assert chosen.export["onnx-int4"].block_size == 64


def test_an_option_of_another_format(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match="gguf-f16 has no option 'block_size'") as caught:
        load(write(START + "export:\n  gguf-f16:\n    block_size: 64\n"))
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (6, 17)


def test_the_model_takes_the_short_forms_too() -> None:
    recipe = Recipe(
        base_model="x",
        data={"datasets": [{"path": "a"}], "test": [{"path": "b"}]},
        merge=True,
        gate=["task.loss <= 3"],
        export=["gguf-f16"],
    )
    assert recipe.merge.write
    assert recipe.gates[0].limit == 3
    with pytest.raises(ValueError, match="gguf-f16 is named twice"):
        Recipe(base_model="x", data={"datasets": [{"path": "a"}]}, export=["gguf-f16", "gguf-f16"])


def test_all_faults_come_at_once_in_the_order_of_the_file(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Errors) as caught:
        load(write(START + "  nope: 1\nseed: x\ntrain: {lora_r: 0, lr: 3}\n"))
    assert [error.where.line for error in caught.value.errors if error.where] == [4, 5, 6, 6]
    assert caught.value.exit_code == 2


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: there is no such recipe\nedgeft init writes one"


def test_nothing_heavy_is_imported(write) -> None:  # type: ignore[no-untyped-def]
    code = (
        "import sys; from edgeft.recipe import load; from edgeft.recipe.check import check; "
        "from edgeft.models import base; from edgeft.stages.estimates import Machine, estimates_of; "
        "recipe = load(sys.argv[1]); check(recipe, base); estimates_of(recipe, Machine()); "
        "heavy = {'torch', 'numpy', 'transformers', 'datasets', 'scipy', 'onnx', 'gguf', 'llama_cpp'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    path = write(START + "export: [gguf-q4_k_m]")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
