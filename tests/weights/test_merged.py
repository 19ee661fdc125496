"""Folding: bit for bit as peft merges, and as bitsandbytes dequantizes; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.weights import open_weights
from edgeft.weights.adapter import open_adapter
from edgeft.weights.dequantized import Dequantized, FourBit
from edgeft.weights.fold import Folded
from edgeft.weights.safetensors import open_file
from tests.models_made import make_adapter, make_llama

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("untied") / "base", tied=False, **SMALL)


def peft_merged(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What peft's own in-memory merge gives, in the checkpoint's dtype."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())


def assert_equal_to_peft(base: Path, adapter: Path) -> int:
    """Compare every weight; returns how many the adapter changed."""
    expected = peft_merged(base, adapter)
    pristine = open_weights(base)
    changed = 0
    for name, tensor in open_weights(base, adapter, merge_base="pristine").items():
        values = tensor.read()
        assert values.dtype == expected[name].dtype
        assert torch.equal(values, expected[name]), name
        changed += not torch.equal(values, pristine[name].read())
    return changed


def test_equals_peft_bit_for_bit(tiny_llama: Path, tiny_adapter: Path) -> None:
    assert assert_equal_to_peft(tiny_llama, tiny_adapter) == 14  # seven matrices of two layers


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_dtypes_equal_peft(tmp_path: Path, dtype: str) -> None:
    base = make_llama(tmp_path / "base", dtype=dtype, **SMALL)
    assert assert_equal_to_peft(base, make_adapter(tmp_path / "adapter", base)) == 14


def test_rslora_patterns_and_shards_equal_peft(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", shard_size="60KB", tied=False, **SMALL)
    assert len(list(base.glob("*.safetensors"))) > 2
    adapter = make_adapter(
        tmp_path / "adapter",
        base,
        targets=("q_proj", "down_proj", "lm_head"),
        use_rslora=True,
        rank_pattern={"q_proj": 3, r"layers\.1\.mlp\.down_proj": 5},
        alpha_pattern={"down_proj": 7},
    )
    assert assert_equal_to_peft(base, adapter) == 5


def test_embedding_lora_equals_peft(tmp_path: Path) -> None:
    """On a float32 base: peft rounds an embedding's change to the base's dtype before it adds it, edgeft only after."""
    base = make_llama(tmp_path / "base", tied=False, dtype="float32", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base, targets=("embed_tokens", "v_proj"))
    assert assert_equal_to_peft(base, adapter) == 3


def test_modules_to_save_equal_peft(tmp_path: Path, untied: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", untied, targets=("v_proj",), modules_to_save=["lm_head"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.weight"] += 0.5
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    assert assert_equal_to_peft(untied, adapter) == 3


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_chunks_put_together_are_the_tensor(tiny_llama: Path, tiny_adapter: Path, rows: int) -> None:
    for tensor in open_weights(tiny_llama, tiny_adapter, merge_base="pristine").values():
        whole = tensor.read()
        assert torch.equal(torch.cat(list(tensor.chunks(rows))), whole)
        assert torch.equal(tensor.rows(3, 50), whole[3:50])


def test_a_very_large_change_is_computed_in_row_blocks(tiny_llama: Path, tiny_adapter: Path) -> None:
    """Above a limit the change is not held whole: blocks of 64 rows give the same bits."""
    weights, adapter = open_file(tiny_llama / "model.safetensors"), open_adapter(tiny_adapter)
    for name, lora in adapter.loras.items():
        whole = Folded(weights[name], lora, "BF16").read()
        blocks = Folded(weights[name], lora, "BF16", whole=1)
        assert torch.equal(torch.cat(list(blocks.chunks(64))), whole), name


# --- the 4-bit base -----------------------------------------------------------------------------------------------


def four_bit_model(base: Path, *, double_quant: bool, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    return AutoModelForCausalLM.from_pretrained(base, quantization_config=how, device_map="cpu", dtype=dtype)


def dequantized_layers(model: Any) -> dict[str, torch.Tensor]:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    return {
        f"{name}.weight": dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit)
    }


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "F32"), (torch.bfloat16, "BF16")])
def test_dequantized_equals_the_real_4_bit_model(
    tiny_llama: Path, double_quant: bool, dtype: torch.dtype, name: str
) -> None:
    layers = dequantized_layers(four_bit_model(tiny_llama, double_quant=double_quant, dtype=dtype))
    assert len(layers) == 14
    weights = open_weights(tiny_llama)
    for weight, expected in layers.items():
        for chunk_bytes in (16 << 20, 4096, 60_000):
            found = Dequantized(weights[weight], FourBit(double_quant=double_quant, dtype=name), chunk_bytes)
            assert torch.equal(found.read(), expected)
        assert torch.equal(torch.cat(list(found.chunks(7, start=1, stop=60))), expected[1:60])


def test_odd_widths_are_cut_where_blocks_end(tmp_path: Path) -> None:
    """A row of 40 values is no whole number of 64-value blocks; chunks have to end with a block all the same."""
    from bitsandbytes import functional

    values = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"w": values}, tmp_path / "w.safetensors")
    packed, state = functional.quantize_4bit(values.float(), blocksize=64, quant_type="nf4", compress_statistics=True)
    expected = functional.dequantize_4bit(packed, state)
    found = Dequantized(open_file(tmp_path / "w.safetensors")["w"], FourBit(), chunk_bytes=1000)
    assert torch.equal(torch.cat(list(found.chunks(3))), expected)


def with_training(adapter: Path, folder: Path, **quantization: Any) -> Path:
    """A copy of an adapter with a training.json as edgeft's training writes it."""
    shutil.copytree(adapter, folder)
    names = list(open_adapter(adapter).loras)
    table = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32", "weights": names}
    (folder / "training.json").write_text(json.dumps({"quantization": {**table, **quantization}}))
    return folder


def test_dequantized_merge_is_the_model_that_was_trained(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """The merged weights equal the 4-bit weights plus the change, rounded once; its logits follow the 4-bit model's."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = with_training(tiny_adapter, tmp_path / "adapter")
    base = four_bit_model(tiny_llama, double_quant=True)
    layers = dequantized_layers(base)
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    merged = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    changes = {
        f"{name}.weight".removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in tuned.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    values = {name: tensor.read() for name, tensor in open_weights(tiny_llama, adapter).items()}
    assert len(changes) == 14
    for name, change in changes.items():
        assert torch.equal(values[name], (layers[name] + change).bfloat16())
    merged.load_state_dict({name: tensor.float() for name, tensor in values.items()}, strict=False)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        want, got = tuned(ids).logits, merged(ids).logits
        pristine = open_weights(tiny_llama, adapter, merge_base="pristine")
        merged.load_state_dict({name: tensor.read().float() for name, tensor in pristine.items()}, strict=False)
        other = merged(ids).logits
    near, far = (got - want).abs().max(), (other - want).abs().max()
    assert near < far / 10  # what is left is the rounding to bfloat16


def test_weights_that_were_quantized_without_an_adapter_are_dequantized_too(tiny_llama: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "plain", tiny_llama, targets=("v_proj",))
    name = "model.layers.0.mlp.up_proj.weight"
    trained = with_training(adapter, tmp_path / "trained", weights=[name])
    expected = dequantized_layers(four_bit_model(tiny_llama, double_quant=True))[name].bfloat16()
    assert torch.equal(open_weights(tiny_llama, trained)[name].read(), expected)


# --- what is refused ----------------------------------------------------------------------------------------------


def changed_config(adapter: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"r": 4}, "rank 4"),
        ({"lora_alpha": float("inf")}, "scale"),
    ],
)
def test_adapters_that_cannot_be_folded(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        open_weights(tiny_llama, changed_config(tiny_adapter, tmp_path / "adapter", **changes))


def test_adapter_of_another_base(tiny_adapter: Path, tmp_path: Path) -> None:
    deeper = make_llama(tmp_path / "wider", hidden=128, head_dim=32)
    with pytest.raises(ModelError, match="shape") as caught:
        open_weights(deeper, tiny_adapter)
    assert "names its base" in str(caught.value)
    shallow = make_llama(tmp_path / "shallow", layers=1)
    with pytest.raises(ModelError, match=r"layers\.1\..*does not have"):
        open_weights(shallow, tiny_adapter)


def test_training_json_of_another_base(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    adapter = with_training(tiny_adapter, tmp_path / "adapter", weights=["model.layers.9.mlp.up_proj.weight"])
    with pytest.raises(ModelError, match="quantized weight"):
        open_weights(tiny_llama, adapter)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_the_adapter(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, value: float) -> None:
    adapter = Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))
    tensors = load_file(adapter / "adapter_model.safetensors")
    key = next(key for key in tensors if "q_proj.lora_B" in key)
    tensors[key][0, 0] = value
    save_file(tensors, adapter / "adapter_model.safetensors")
    weight = key.removeprefix("base_model.model.").replace(".lora_B", "")
    with pytest.raises(ModelError, match="NaN"):
        open_weights(tiny_llama, adapter)[weight].read()


def test_nan_in_the_base_and_overflow_of_the_merge(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", dtype="float16", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base, targets=("v_proj",), alpha=1e9)
    with pytest.raises(ModelError, match=r"merged weight 'model\.layers\.0\.self_attn\.v_proj"):
        open_weights(base, adapter)["model.layers.0.self_attn.v_proj.weight"].read()
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"the base's weight 'model\.norm\.weight'"):
        open_weights(base)["model.norm.weight"].read()


def test_pickle_adapter_and_left_over_keys(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(tiny_adapter, tmp_path / "pickled"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        open_weights(tiny_llama, pickled)
    odd = Path(shutil.copytree(tiny_adapter, tmp_path / "odd"))
    tensors = load_file(odd / "adapter_model.safetensors")
    save_file({**tensors, "something.else": torch.zeros(2)}, odd / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"something\.else"):
        open_weights(tiny_llama, odd)
    half = Path(shutil.copytree(tiny_adapter, tmp_path / "half"))
    save_file({key: value for key, value in tensors.items() if "lora_B" in key}, half / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="only one of the two"):
        open_weights(tiny_llama, half)


def test_tied_embeddings_cannot_be_changed(tiny_llama: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_llama, targets=("v_proj", "embed_tokens"))
    with pytest.raises(ModelError, match="ties"):
        open_weights(tiny_llama, adapter)
