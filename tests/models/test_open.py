"""Opening bases and adapters: what transformers and peft only log is refused here, and 4 bits are bitsandbytes' own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.models.identity import base_digest
from edgeft.models.open import open_adapter, open_base, open_tuned, pick_dtype, quantization_of, quantized_names
from edgeft.models.tokenizer import generation_stop_ids, load_tokenizer, template_of
from tests.models_made import make_llama

IDS = torch.arange(5, 60)[None]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture
def base(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "base"))


@pytest.fixture
def adapter(tiny_adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def change_json(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_plain_is_transformers_own(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    expected = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    model = open_base(tiny_llama, device="cpu")
    assert torch.equal(logits(model), logits(expected))
    assert quantization_of(model) is None
    assert quantized_names(model) == []
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_four_bits_are_bitsandbytes_own(tiny_llama: Path) -> None:
    """The dequantized layers on a CPU compute what bitsandbytes' 4-bit layers compute, bit for bit."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    expected = AutoModelForCausalLM.from_pretrained(
        tiny_llama, dtype=torch.float32, quantization_config=how, device_map="cpu"
    )
    for module in expected.modules():
        module.support_avx512bf16_for_cpu = False  # else bitsandbytes rounds to bfloat16 where the CPU can
    model = open_base(tiny_llama, four_bit=True, device="cpu")
    assert torch.equal(logits(model), logits(expected))
    assert not torch.equal(logits(model), logits(open_base(tiny_llama, device="cpu")))


def test_four_bit_weights_are_named_as_in_the_checkpoint(tiny_llama: Path) -> None:
    model = open_base(tiny_llama, four_bit=True, device="cpu")
    tensors = load_file(tiny_llama / "model.safetensors")
    assert quantized_names(model) == sorted(name for name in tensors if "proj" in name)
    how = quantization_of(model)
    assert how is not None
    assert {key: value for key, value in how.table().items() if key != "weights"} == {
        "quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32",
    }  # fmt: skip


def test_an_adapter_answers_as_in_plain_peft(tiny_llama: Path, tiny_adapter: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    expected = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32), tiny_adapter
    )
    tuned = open_tuned(tiny_llama, tiny_adapter, device="cpu")
    assert torch.equal(logits(tuned), logits(expected.eval()))
    assert not torch.equal(logits(tuned), logits(open_base(tiny_llama, device="cpu")))


def _drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def _misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(8, dtype=torch.bfloat16)


def _spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = float("nan")


def _add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.2.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].clone()


@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "the checkpoint has no weight 'model.layers.1.mlp.up_proj.weight': it would be random"),
        (_misshape, "the weight 'model.norm.weight' has another shape than config.json says"),
        (_spoil, "the weight 'model.layers.0.mlp.up_proj.weight' holds NaN or infinite values"),
        (_add, "the checkpoint's weight 'model.layers.2.mlp.up_proj.weight' has no place in the model of config.json"),
    ],
)
def test_damaged_weights(base: Path, change: Any, message: str, four_bit: bool) -> None:
    change_weights(base / "model.safetensors", change)
    with pytest.raises(ModelError) as raised:
        open_base(base, four_bit=four_bit, device="cpu")
    assert raised.value.what == message


def test_a_file_cut_short(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="the base model cannot be opened"):
        open_base(base, device="cpu")


def test_a_pickle_is_refused(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match=r"the checkpoint is a pickle \(pytorch_model.bin\)"):
        open_base(base, device="cpu")


def test_remote_code_is_not_run(base: Path) -> None:
    marker = base / "ran"
    (base / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    change_json(
        base / "config.json",
        model_type="evil",
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    )
    with pytest.raises(ModelError, match="the base model cannot be opened"):
        open_base(base, device="cpu")
    assert not marker.exists()


def test_an_adapter_as_a_pickle_is_refused(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"the adapter is a pickle \(adapter_model.bin\)"):
        open_tuned(base, adapter, device="cpu")


def _first(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(tensors)[0]


def _lack(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[_first(tensors)]


def _more(tensors: dict[str, torch.Tensor]) -> None:
    name = _first(tensors)
    tensors[name.replace("layers.0", "layers.7")] = tensors[name].clone()


def _wide(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_first(tensors)] = torch.zeros(8, 33)


def _infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_first(tensors)][0, 0] = float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lack, "the adapter has no values for"),
        (_more, "has no place in the base model"),
        (_wide, "has the shape (8, 33), the base needs"),
        (_infinite, "holds NaN or infinite values"),
    ],
)
def test_damaged_adapters(tiny_llama: Path, adapter: Path, change: Any, message: str) -> None:
    change_weights(adapter / "adapter_model.safetensors", change)
    with pytest.raises(ModelError) as raised:
        open_tuned(tiny_llama, adapter, device="cpu")
    assert message in raised.value.what


def test_an_adapter_of_a_base_of_another_shape(adapter: Path, tmp_path: Path) -> None:
    other = make_llama(tmp_path / "other", hidden=128, intermediate=256)
    with pytest.raises(ModelError, match="the base needs"):
        open_tuned(other, adapter, device="cpu")


def test_an_adapter_of_another_base_of_the_same_shape(tiny_llama: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_llama(tmp_path / "other", seed=9)
    training = {"base": {"ref": "builtin:other", "digest": base_digest(other)}}
    (adapter / "training.json").write_text(json.dumps(training))
    with pytest.raises(ModelError) as raised:
        open_tuned(tiny_llama, adapter, device="cpu")
    assert raised.value.what == "the adapter was trained on another base model"
    assert "builtin:other" in str(raised.value)
    open_tuned(other, adapter, device="cpu")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"peft_type": "IA3"}, "the adapter is of the type IA3, not LORA"),
        ({"task_type": "SEQ_CLS"}, "the adapter says that it is a classifier and holds no head"),
        ({"target_modules": ["no_such_layer"]}, "the adapter does not fit the base model"),
    ],
)
def test_configs_that_do_not_fit(tiny_llama: Path, adapter: Path, keys: dict[str, Any], message: str) -> None:
    change_json(adapter / "adapter_config.json", **keys)
    with pytest.raises(ModelError, match=message):
        open_tuned(tiny_llama, adapter, device="cpu")


def test_nothing_is_said(tiny_llama: Path, tiny_adapter: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_adapter(open_base(tiny_llama, device="cpu"), tiny_adapter)
    load_tokenizer(tiny_llama)
    assert capfd.readouterr() == ("", "")


def test_the_digest_tells_bases_apart_and_not_folders(tiny_llama: Path, base: Path) -> None:
    assert base_digest(base) == base_digest(tiny_llama)
    change_weights(base / "model.safetensors", lambda tensors: tensors["model.norm.weight"].mul_(1.5))
    assert base_digest(base) != base_digest(tiny_llama)


def test_stop_ids_come_from_the_generation_config_first(base: Path) -> None:
    assert generation_stop_ids(base) == (319,)
    change_json(base / "generation_config.json", eos_token_id=[319, 317])
    assert generation_stop_ids(base) == (317, 319)
    (base / "generation_config.json").unlink()
    assert generation_stop_ids(base) == (319,)


def test_templates(base: Path) -> None:
    own = (base / "chat_template.jinja").read_text()
    assert template_of(load_tokenizer(base)) == own
    assert template_of(load_tokenizer(base, chat_template="x")) == "x"
    with pytest.raises(ModelError, match=r"the chat template is broken: .* \(its line 2\)"):
        load_tokenizer(base, chat_template="a\n{% for %}")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="the base model has no chat template"):
        template_of(load_tokenizer(base))


def test_the_dtype_of_a_cpu() -> None:
    assert pick_dtype("auto", "cpu") == "float32"
    assert pick_dtype("bfloat16", "cpu") == "bfloat16"
    with pytest.raises(ModelError, match="unknown dtype 'int3'"):
        pick_dtype("int3", "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: 4-bit layers stay in 4 bits there only")
def test_on_cuda_the_weights_stay_in_four_bits(tiny_llama: Path, tiny_adapter: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    model = open_base(tiny_llama, four_bit=True, device="cuda")
    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 14
    assert len(quantized_names(model)) == 14
    open_adapter(model, tiny_adapter)
