"""Combined adapters: as peft's `add_weighted_adapter` makes them, and peft opens what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeft.errors import InputError, ModelError
from edgeft.weights import open_weights
from edgeft.weights.combine import METHODS, PRUNING, Recipe, _seed, combine, scaled
from tests.models_made import make_adapter, make_llama
from tests.weights.test_adapters import without

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16}
WEIGHTS = (0.7, -0.3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("made") / "base", tied=False, **SMALL)


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the same rank; the second leaves some layers alone, scales otherwise and touches the embeddings."""
    folder = tmp_path_factory.mktemp("adapters")
    first = make_adapter(folder / "first", base, alpha=12)
    targets = ("q_proj", "down_proj", "embed_tokens")
    saved = make_adapter(folder / "saved", base, targets=targets, seed=5, use_rslora=True)
    return [first, without(saved, folder / "second", "embed_tokens.base_layer")]  # peft saves the embedding as well


def in_peft(base: Path, adapters: list[Path]) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, adapters[0], adapter_name="0")
    for number, folder in enumerate(adapters[1:], 1):
        tuned.load_adapter(folder, adapter_name=str(number))
    return tuned


def changes(tuned: Any, name: str) -> dict[str, torch.Tensor]:
    from peft.tuners.lora import LoraLayer

    return {
        key.removeprefix("base_model.model."): module.get_delta_weight(name)
        for key, module in tuned.named_modules()
        if isinstance(module, LoraLayer) and name in {**module.lora_A, **module.lora_embedding_A}
    }


def density(method: str) -> float | None:
    return 0.4 if method.removesuffix("_svd") in PRUNING else None


@pytest.mark.parametrize("method", [name for name in METHODS if "dare" not in name])
def test_equals_add_weighted_adapter(base: Path, adapters: list[Path], tmp_path: Path, method: str) -> None:
    combine(adapters, Recipe(WEIGHTS, method, density(method)), tmp_path)
    tuned = in_peft(base, adapters)
    tuned.add_weighted_adapter(["0", "1"], list(WEIGHTS), "new", combination_type=method, density=density(method))
    tuned.peft_config["new"].use_rslora = False
    tuned.load_adapter(tmp_path, adapter_name="ours")
    wanted, found = changes(tuned, "new"), changes(tuned, "ours")
    assert set(found) == set(wanted)
    assert len(found) == 15
    for name, change in wanted.items():
        assert torch.allclose(found[name], change, atol=2e-6), name
        assert float(change.abs().max()) > 1e-3


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "dare_ties_svd"])
def test_dare_is_peft_s_under_the_same_seed(base: Path, adapters: list[Path], tmp_path: Path, method: str) -> None:
    """peft draws layer after layer from the global generator; here every layer has a seed of its own."""
    combine(adapters, Recipe(WEIGHTS, method, 0.4, seed=11), tmp_path)
    tuned = in_peft(base, [*adapters, tmp_path])
    module = "model.layers.1.self_attn.q_proj"
    layer = tuned.get_submodule(f"base_model.model.{module}")
    torch.manual_seed(_seed(11, module))
    if method.endswith("_svd"):
        a, b = tuned._svd_generalized_task_arithmetic_weighted_adapter(
            method, ["0", "1"], list(WEIGHTS), 8, layer, None, None, 0.4, "total"
        )
    else:
        a, b = tuned._generalized_task_arithmetic_weighted_adapter(
            method, ["0", "1"], list(WEIGHTS), layer, 0.4, "total"
        )
    assert torch.allclose(layer.get_delta_weight("2"), b @ a, atol=1e-6)
    again = tmp_path / "again"
    again.mkdir()
    combine(adapters, Recipe(WEIGHTS, method, 0.4, seed=12), again)
    assert not torch.equal(load_file(again / "adapter_model.safetensors")[KEY], weights_of(tmp_path))


KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def weights_of(folder: Path) -> torch.Tensor:
    return load_file(folder / "adapter_model.safetensors")[KEY]


def test_other_ranks_with_cat_and_svd(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    """cat and a full-rank svd are exact: the sum of the weighted changes."""
    narrow = make_adapter(tmp_path / "narrow", base, r=3, seed=7, rank_pattern={"k_proj": 5})
    both = [adapters[0], narrow]
    tuned = in_peft(base, both)
    first, second = changes(tuned, "0"), changes(tuned, "1")
    for method, rank in (("cat", None), ("svd", 16)):
        out = tmp_path / method
        out.mkdir()
        combine(both, Recipe((0.5, 2.0), method, rank=rank), out)
        tuned.load_adapter(out, adapter_name=method)
        for name, change in changes(tuned, method).items():
            assert torch.allclose(change, 0.5 * first[name] + 2.0 * second[name], atol=1e-5)
    with pytest.raises(ModelError, match="needs equal ranks"):
        combine(both, Recipe((0.5, 2.0), "ties", 0.5), tmp_path)


def test_combined_folds_as_the_sum(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    combine(adapters, Recipe((1.0, 1.0), "cat"), tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    pristine, found = open_weights(base)[name].read().float(), open_weights(base, tmp_path)[name].read().float()
    tuned = in_peft(base, adapters)
    module = name.removesuffix(".weight")
    wanted = pristine + changes(tuned, "0")[module] + changes(tuned, "1")[module]
    assert torch.allclose(found, wanted.bfloat16().float(), atol=1e-2)
    record = json.loads((tmp_path / "combined.json").read_text())
    assert [entry["name"] for entry in record["adapters"]] == ["first", "second"]
    assert (record["method"], record["weights"]) == ("cat", [1.0, 1.0])


@pytest.mark.parametrize("dora", [False, True])
def test_scaled_equals_peft_set_scale(base: Path, tmp_path: Path, dora: bool) -> None:
    from peft.tuners.lora import LoraLayer

    adapter = make_adapter(tmp_path / "one", base, alpha_pattern={"q_proj": 3.0}, use_dora=dora)
    (tmp_path / "out").mkdir()
    scaled(adapter, 0.8, tmp_path / "out")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", 0.8)
    wanted = tuned.merge_and_unload().state_dict()
    found = open_weights(base, tmp_path / "out")
    assert all(torch.equal(tensor.read(), wanted[name]) for name, tensor in found.items())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (Recipe((1.0,)), "2 adapters and 1 weights"),
        (Recipe((1.0, float("nan"))), "cannot be used"),
        (Recipe((0.0, 0.0)), "cannot be used"),
        (Recipe((1.0, 1.0), "tie", 0.5), "unknown method 'tie'"),
        (Recipe((1.0, 1.0), "ties"), "needs a density"),
        (Recipe((1.0, 1.0), "linear", 0.5), "has no density"),
        (Recipe((1.0, 1.0), "ties", 1.5), "between 0 and 1"),
        (Recipe((1.0, 1.0), "linear", rank=4), "does not take the rank"),
    ],
)
def test_recipes_that_make_no_sense(adapters: list[Path], tmp_path: Path, how: Recipe, says: str) -> None:
    with pytest.raises(InputError, match=says):
        combine(adapters, how, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_adapters_that_cannot_be_combined(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    dora = make_adapter(tmp_path / "dora", base, use_dora=True)
    with pytest.raises(ModelError, match="holds DoRA"):
        combine([adapters[0], dora], Recipe((1.0, 1.0)), tmp_path)
    whole = make_adapter(tmp_path / "whole", base, targets=("q_proj",), modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match=r"modules saved whole \('lm_head\.weight'\)"):
        scaled(whole, 0.5, tmp_path)
    other = Path(shutil.copytree(adapters[1], tmp_path / "other"))
    (other / "training.json").write_text('{"base": {"ref": "x", "digest": "y"}}')
    with pytest.raises(ModelError, match="differ in the base"):
        combine([adapters[0], other], Recipe((1.0, 1.0)), tmp_path)
    wide = make_adapter(tmp_path / "wide", make_llama(tmp_path / "base", hidden=128, head_dim=16, intermediate=96))
    with pytest.raises(ModelError, match="different shapes"):
        combine([adapters[0], wide], Recipe((1.0, 1.0)), tmp_path)
