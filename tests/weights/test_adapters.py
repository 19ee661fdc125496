"""Every kind of peft LoRA that can be folded exactly: bit for bit as peft's `merge_and_unload`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.weights import open_weights
from edgeft.weights.fold import Folded
from tests.models_made import make_adapter, make_llama, save_random
from tests.weights.test_merged import assert_equal_to_peft, changed_config

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16}
Q_BIAS = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Biases everywhere, untied embeddings."""
    folder = tmp_path_factory.mktemp("biased") / "base"
    base = make_llama(folder, tied=False, attention_bias=True, mlp_bias=True, **SMALL)
    tensors = load_file(base / "model.safetensors")
    for name in tensors:
        if name.endswith(".bias"):
            tensors[name] = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(3)).bfloat16()
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    return base


def shaken(adapter: Path, strength: float = 0.1) -> Path:
    """An adapter all of whose tensors are other than peft started them: magnitudes, biases and tokens too."""
    generator = torch.Generator().manual_seed(9)
    tensors = load_file(adapter / WEIGHTS)
    tensors = {
        name: value + torch.randn(value.shape, generator=generator) * strength for name, value in tensors.items()
    }
    save_file(tensors, adapter / WEIGHTS, {"format": "pt"})
    return adapter


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"use_dora": True}, 14),
        ({"use_dora": True, "use_rslora": True, "targets": ("q_proj", "down_proj")}, 4),
        ({"lora_bias": True, "targets": ("q_proj", "up_proj")}, 8),
        ({"bias": "all", "targets": ("q_proj",)}, 16),
        ({"bias": "lora_only", "targets": ("q_proj",)}, 4),
        ({"trainable_token_indices": [3, 5, 100], "targets": ("v_proj",)}, 3),
        ({"trainable_token_indices": {"lm_head": [7], "embed_tokens": [1, 2]}, "targets": ("v_proj",)}, 4),
    ],
    ids=["dora", "dora-rslora", "lora-bias", "bias-all", "bias-lora-only", "tokens", "tokens-of-two"],
)
def test_kinds_equal_peft(biased: Path, tmp_path: Path, options: dict[str, Any], changed: int) -> None:
    adapter = shaken(make_adapter(tmp_path / "adapter", biased, **options))
    assert assert_equal_to_peft(biased, adapter) == changed


def test_dora_on_an_embedding_equals_peft(tmp_path: Path) -> None:
    """On a float32 base, as for plain LoRA: peft rounds an embedding's change to the base's dtype first."""
    base = make_llama(tmp_path / "base", tied=False, dtype="float32", **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base, targets=("embed_tokens", "v_proj"), use_dora=True)
    assert assert_equal_to_peft(base, adapter) == 3


def test_trained_tokens_of_tied_embeddings_equal_peft(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", tied=True, **SMALL)
    options: dict[str, Any] = {"trainable_token_indices": [0, 319], "targets": ("v_proj",)}
    adapter = shaken(make_adapter(tmp_path / "adapter", base, **options))
    assert assert_equal_to_peft(base, adapter) == 3


def make_gpt2(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir()
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32, eos_token_id=1, pad_token_id=0)
    return save_random(folder, GPT2LMHeadModel, config)


@pytest.mark.parametrize(
    ("targets", "changed"), [(("c_attn", "c_proj"), 6), (("attn.c_proj",), 2), (("c_fc",), 2)], ids=str
)
@pytest.mark.parametrize("fan", [True, False])
@pytest.mark.parametrize("dora", [True, False])
def test_conv1d_equals_peft(tmp_path: Path, targets: tuple[str, ...], changed: int, fan: bool, dora: bool) -> None:
    """GPT-2 holds its weights the other way round; a square one does not show it."""
    base = make_gpt2(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, targets=targets, fan_in_fan_out=fan, use_dora=dora)
    assert assert_equal_to_peft(base, adapter) == changed


TOKENS: dict[str, Any] = {"trainable_token_indices": [3, 50]}


@pytest.mark.parametrize("options", [{"use_dora": True, **TOKENS}, {"lora_bias": True, **TOKENS}], ids=["dora", "bias"])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_chunks_are_the_tensor(biased: Path, tmp_path: Path, rows: int, options: dict[str, Any]) -> None:
    adapter = shaken(make_adapter(tmp_path / "adapter", biased, targets=("q_proj",), **options))
    for tensor in open_weights(biased, adapter).values():
        whole = tensor.read()
        assert torch.equal(torch.cat(list(tensor.chunks(rows))), whole)
        assert torch.equal(tensor.rows(3, 50), whole[3:50])


def test_a_very_large_dora_is_computed_in_row_blocks(biased: Path, tmp_path: Path) -> None:
    from edgeft.weights.adapter import open_adapter
    from edgeft.weights.safetensors import open_file

    adapter = open_adapter(shaken(make_adapter(tmp_path / "adapter", biased, use_dora=True)))
    weights = open_file(biased / "model.safetensors")
    for name, lora in adapter.loras.items():
        blocks = Folded(weights[name], lora, "BF16", whole=1)
        assert torch.equal(torch.cat(list(blocks.chunks(64))), Folded(weights[name], lora, "BF16").read()), name


def without(adapter: Path, folder: Path, part: str) -> Path:
    shutil.copytree(adapter, folder)
    tensors = {name: value for name, value in load_file(folder / WEIGHTS).items() if part not in name}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


def test_what_does_not_fit_is_refused(tiny_llama: Path, biased: Path, tmp_path: Path) -> None:
    dora = make_adapter(tmp_path / "dora", biased, targets=("q_proj",), use_dora=True)
    with pytest.raises(ModelError, match="has no DoRA magnitude"):
        open_weights(biased, without(dora, tmp_path / "half", "magnitude"))
    with pytest.raises(ModelError, match="has a DoRA magnitude"):
        open_weights(biased, changed_config(dora, tmp_path / "plain", use_dora=False))
    unbiased = make_llama(tmp_path / "unbiased", tied=False, **SMALL)
    bias = make_adapter(tmp_path / "bias", biased, targets=("q_proj",), lora_bias=True)
    with pytest.raises(ModelError, match=r"q_proj\.bias', which .* does not have"):
        open_weights(unbiased, bias)
    tokens = make_adapter(tmp_path / "tokens", biased, targets=("q_proj",), trainable_token_indices=[3, 4])
    for listed, says in (
        ([3], "1 tokens"),
        ([3, 3], "2 tokens"),
        ([3, 9999], "9999"),
        ([-1, 3], "not listed"),
        (None, "not listed"),
    ):
        changed = changed_config(tokens, tmp_path / f"t{listed}", trainable_token_indices=listed)
        with pytest.raises(ModelError, match=says):
            open_weights(biased, changed)
    narrow = load_file(tokens / WEIGHTS)
    key = next(name for name in narrow if "trainable_tokens" in name)
    save_file({**narrow, key: narrow[key][:, :60].contiguous()}, tokens / WEIGHTS, {"format": "pt"})
    with pytest.raises(ModelError, match="width 60"):
        open_weights(biased, tokens)


@pytest.mark.parametrize(
    ("part", "options"),
    [("magnitude", {"use_dora": True}), ("lora_B.bias", {"lora_bias": True}), ("trainable_tokens", TOKENS)],
)
def test_nan_in_every_part(biased: Path, tmp_path: Path, part: str, options: dict[str, Any]) -> None:
    adapter = make_adapter(tmp_path / "adapter", biased, targets=("q_proj",), **options)
    tensors = load_file(adapter / WEIGHTS)
    key = next(name for name in tensors if part in name)
    tensors[key].reshape(-1)[0] = float("nan")
    save_file(tensors, adapter / WEIGHTS, {"format": "pt"})
    weights = open_weights(biased, adapter).values()
    with pytest.raises(ModelError, match="NaN"):
        [tensor.read() for tensor in weights]


def make_moe(folder: Path, dtype: str = "float32") -> Path:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    folder.mkdir()
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_experts=4, num_experts_per_tok=2,
        tie_word_embeddings=False, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return save_random(folder, Qwen3MoeForCausalLM, config, dtype=dtype)


@pytest.mark.parametrize(
    "parameters", [("gate_up_proj", "down_proj"), ("down_proj", "gate_up_proj"), ("gate_up_proj",)]
)
def test_lora_on_stacked_experts_equals_peft(tmp_path: Path, parameters: tuple[str, ...]) -> None:
    """As peft's merge, saved by transformers; on a float32 base (peft rounds these changes to the base's dtype)."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_moe(tmp_path / "base")
    targets = [f"mlp.experts.{name}" for name in parameters]
    adapter = make_adapter(tmp_path / "adapter", base, targets=("q_proj",), target_parameters=targets)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(tmp_path / "theirs")
    wanted, pristine = load_file(tmp_path / "theirs" / "model.safetensors"), open_weights(base)
    found = open_weights(base, adapter)
    assert set(found) == set(wanted)
    changed = 0
    for name, tensor in found.items():
        values = tensor.read()
        assert torch.allclose(values, wanted[name], atol=1e-6, rtol=0), name
        changed += not torch.equal(values, pristine[name].read())
    leaves = 3 if len(parameters) == 2 else 2
    assert changed == 2 + 2 * 4 * leaves


def test_experts_that_do_not_fit(tmp_path: Path, tiny_llama: Path) -> None:
    base = make_moe(tmp_path / "base")
    targets = ["mlp.experts.gate_up_proj"]
    adapter = make_adapter(tmp_path / "adapter", base, targets=("q_proj",), target_parameters=targets)
    tensors = load_file(adapter / WEIGHTS)
    key = next(name for name in tensors if "experts.lora_B" in name)
    save_file({**tensors, key: tensors[key][:40].contiguous()}, adapter / WEIGHTS, {"format": "pt"})
    with pytest.raises(ModelError, match="4 experts of 24 x 32"):
        open_weights(base, adapter)
    with pytest.raises(ModelError, match="no single experts"):
        open_weights(tiny_llama, adapter)
    with pytest.raises(ModelError, match="rank patterns"):
        open_weights(base, changed_config(adapter, tmp_path / "ranks", rank_pattern={"gate_up_proj": 4}))
