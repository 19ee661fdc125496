"""Estimates per target: every target that takes something has one, and they follow the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.models import needs
from edgeft.models.shapes import gguf_bytes, shape_of
from edgeft.recipe import load
from edgeft.stages.estimates import Estimate, Machine, estimates_of
from edgeft.stages.targets import targets_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
GIGABYTE = 1_000_000_000


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_target_has_one(path: Path) -> None:
    teacher = ["train.teacher=builtin:sprout"] if path.stem == "distill" else []  # its own is another recipe's model
    recipe = load(path, teacher)
    found = estimates_of(recipe, Machine("cuda", 8))
    assert set(found) == {target.name for target in targets_of(recipe)} - {"gate", "report"}
    assert all(one.ram and one.ram > 0 for one in found.values())
    assert all(one.exact for name, one in found.items() if name.startswith("export.gguf"))


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem.endswith("gb")], ids=lambda path: path.stem)
def test_the_gpu_recipes_fit_the_gpu_that_they_name(path: Path) -> None:
    room = int(path.stem.rpartition("-")[2].removesuffix("gb")) * GIGABYTE
    found = estimates_of(load(path), Machine("cuda", 8))
    for name in ("train", "eval.base"):
        vram = found[name].vram
        assert vram is not None
        assert vram < 0.9 * room


def test_adapters_as_gguf(tmp_path: Path) -> None:
    text = "base_model: builtin:sprout\ndata: {datasets: [{path: rows.jsonl}]}\ntrain: {lora_r: 8}\nexport: "
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    sizes = {}
    for name, export in {"f16": "[lora-f16]", "f32": "[lora-f32]", "both": "{lora-f16: {with_base: q8_0}}"}.items():
        (tmp_path / "recipe.yaml").write_text(text + export)
        found = estimates_of(load(tmp_path / "recipe.yaml"), Machine())
        sizes[name] = next(one.disk or 0 for target, one in found.items() if target.startswith("export."))
    shape = shape_of("builtin:sprout")
    assert shape is not None
    assert sizes["f16"] == 2 * 131_072  # rank 8 x 4,096 inputs and outputs x 4 layers
    assert sizes["f32"] == 2 * sizes["f16"]
    assert sizes["both"] == sizes["f16"] + gguf_bytes(shape, "gguf-q8_0")


def test_they_follow_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n' * 100)
    (tmp_path / "recipe.yaml").write_text(
        "base_model: builtin:sprout\ndata: {datasets: [{path: rows.jsonl}], test_set_size: 0.1}\n"
        "eval: {suites: {task: {rows: test}, general: {rows: 'builtin:general', limit: 7}}}\n"
        "export: [gguf-q8_0, gguf-iq4_xs]\n"
    )

    def seconds(target: str, *overrides: str) -> float:
        found = estimates_of(load(tmp_path / "recipe.yaml", overrides), Machine())[target].seconds
        assert found is not None
        return found

    assert seconds("train", "train.num_epochs=20") > seconds("train", "train.num_epochs=2")
    assert seconds("train", "train.max_steps=1") < seconds("train")
    assert seconds("eval.base", "eval.suites.general.limit=5000") > seconds("eval.base")
    assert seconds("eval.base", "data.test_set_size=50") > seconds("eval.base")
    found = estimates_of(load(tmp_path / "recipe.yaml"), Machine())
    shape = shape_of("builtin:sprout")
    assert shape is not None
    assert found["export.gguf-q8_0"].disk == gguf_bytes(shape, "gguf-q8_0")
    assert found["export.gguf-iq4_xs"].disk == gguf_bytes(shape, "gguf-iq4_xs")
    assert found["train"].vram is None


def test_a_matrix_takes_a_pass_over_the_training_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n' * 100)
    (tmp_path / "recipe.yaml").write_text(
        "base_model: builtin:sprout\ndata: {datasets: [{path: rows.jsonl}]}\nexport: {gguf-q4_k_m: {imatrix: true}}\n"
    )
    recipe = load(tmp_path / "recipe.yaml")
    found = estimates_of(recipe, Machine("cuda", 8))
    assert set(found) == {target.name for target in targets_of(recipe)} - {"report"}
    assert found["imatrix"].disk == 4 * 4 * (6 * 256 + 512)  # four layers of q, k, v, o, gate, up and down
    assert (found["imatrix"].vram or 0) > 0
    assert "imatrix" not in estimates_of(load(tmp_path / "recipe.yaml", ["export=[gguf-q8_0]"]), Machine())


def test_an_unknown_base_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "recipe.yaml").write_text("base_model: nobody/nothing\ndata: {datasets: [{path: rows.jsonl}]}\n")
    assert estimates_of(load(tmp_path / "recipe.yaml"), Machine()) == {}


def estimated(tmp_path: Path, train: str, device: str = "cpu") -> dict[str, Estimate]:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n' * 100)
    (tmp_path / "more.jsonl").write_text('{"messages": []}\n' * 300)
    (tmp_path / "recipe.yaml").write_text(
        f"base_model: builtin:sprout\ndata: {{datasets: [{{path: rows.jsonl}}], sequence_len: 64}}\ntrain: {train}\n"
    )
    recipe = load(tmp_path / "recipe.yaml")
    found = estimates_of(recipe, Machine(device, 2))
    assert set(found) >= {target.name for target in targets_of(recipe)} - {"probe", "report"}
    return found


def test_phases_have_one_each(tmp_path: Path) -> None:
    own = "data: {datasets: [{path: more.jsonl}]}"
    found = estimated(tmp_path, f"[{{name: first, {own}, num_epochs: 1}}, {{name: second, num_epochs: 1, lora_r: 16}}]")
    assert "train" not in found
    assert found["data.first"].disk == 3 * (found["data"].disk or 0)
    first, second = found["train.first"], found["train.second"]
    assert (first.seconds or 0) > (second.seconds or 0)
    assert first.disk == second.disk
    assert first.exact
    assert second.exact


def test_full_fine_tuning_holds_every_weight(tmp_path: Path) -> None:
    lora, full = (estimated(tmp_path, f"{{adapter: {name}}}", "cuda")["train"] for name in ("lora", "full"))
    shape = shape_of("builtin:sprout")
    assert shape is not None
    assert full.disk == 2 * shape.parameters
    assert (full.vram or 0) > needs.OVERHEAD_BYTES["cuda"] + 16 * shape.parameters  # weight, gradient, two moments
    assert (full.seconds or 0) > (lora.seconds or 0)


def test_a_teacher_and_a_first_model_take_time(tmp_path: Path) -> None:
    plain = estimated(tmp_path, "{objective: sft}")["train"]
    taught = estimated(tmp_path, "{objective: distill, teacher: 'builtin:sprout'}")["train"]
    shape = shape_of("builtin:sprout")
    assert shape is not None
    assert (taught.ram or 0) - (plain.ram or 0) == 4 * shape.parameters
    assert (taught.seconds or 0) > (plain.seconds or 0)
    unknown = estimated(tmp_path, "{objective: distill, teacher: nobody/nothing}")["train"]
    assert unknown.ram is None
    assert unknown.seconds is None


def test_an_adapter_of_some_layers_is_smaller(tmp_path: Path) -> None:
    whole, half, part = (
        estimated(tmp_path, f"{{lora_r: 8{more}}}")["train"].disk or 0
        for more in ("", ", lora_layers: [-2, -1]", ", lora_target_modules: attention")
    )
    assert whole == 2 * half
    assert whole == 4 * 131_072
    assert part == 4 * 4 * 8 * (2 * (256 + 256) + 2 * (256 + 128))  # q and o, k and v, of four layers
