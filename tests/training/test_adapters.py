"""Each adapter variant trains, is written, opens in plain peft with the same logits, and merges right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.errors import InputError, ModelError
from edgeft.models.open import open_base, open_tuned
from edgeft.training.targets import target_modules
from edgeft.weights import open_weights
from tests.training.made import contents, run_training

VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"lora_init": "pissa"},
    "pissa_rslora": {"lora_init": "pissa", "use_rslora": True},
    "olora": {"lora_init": "olora"},
    "eva": {"lora_init": "eva"},
    "gaussian": {"lora_init": "gaussian"},
    "loraplus": {"loraplus_lr_ratio": 4.0},
    "attention": {"lora_target_modules": "attention"},
    "mlp_of_the_last_layer": {"lora_target_modules": "mlp", "lora_layers": [-1, -1]},
    "tokens": {"trainable_tokens": ["<|im_end|>", "<|im_start|>"]},
    "qlora_nf4": {"adapter": "qlora"},
    "qlora_fp4_single": {"adapter": "qlora", "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False},
    "qlora_loftq": {"adapter": "qlora", "lora_init": "loftq"},
    "qlora_dora": {"adapter": "qlora", "use_dora": True},
}
IDS = torch.tensor([[5, 9, 200, 31, 318, 7, 8, 319]])


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits.float()
    return found


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_it_trains_and_is_the_same_in_plain_peft_and_merged(
    name: str, tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = {"adapter": "lora", "max_steps": 3, "learning_rate": 5e-3, **VARIANTS[name]}
    result = run_training(tmp_path / "a", tiny_llama, tiny_dataset, eval_steps=1, **settings)
    assert result.facts["eval_loss"] == result.facts["best_eval_loss"]
    ours = logits(open_tuned(tiny_llama, tmp_path / "a", device="cpu"))
    if settings["adapter"] == "lora":
        base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    else:
        base = open_base(
            tiny_llama, four_bit=True, device="cpu",
            quant_type=settings.get("bnb_4bit_quant_type", "nf4"),
            double_quant=settings.get("bnb_4bit_use_double_quant", True),
        )  # fmt: skip
    untuned = logits(base)
    tuned = PeftModel.from_pretrained(base, tmp_path / "a")
    assert torch.allclose(ours, logits(tuned), atol=1e-4)
    assert float((ours - untuned).abs().max()) > 1e-3
    whole = tuned.merge_and_unload().state_dict()
    merged = open_weights(tiny_llama, tmp_path / "a")
    for key, tensor in merged.items():
        expected = whole[key].to(torch.bfloat16).float()  # as the checkpoint, rounded once
        assert torch.allclose(tensor.read().float(), expected, rtol=2**-7, atol=1e-6), key


def test_the_written_validation_loss_is_that_of_the_trained_model(
    tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """PiSSA is trained on a changed base and written against the original one: the loss stays."""
    settings = {"adapter": "lora", "lora_init": "pissa", "max_steps": 4, "learning_rate": 1e-3}
    result = run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    from edgeft.data.store import read_tokens
    from tests.training.test_training import expected_loss

    tokens = read_tokens(tiny_dataset / "validation.parquet")
    tuned = open_tuned(tiny_llama, tmp_path / "a", device="cpu")
    trained = sum(int((labels[1:] != -100).sum()) for labels in tokens.labels)
    loss = expected_loss(tuned, tokens, range(len(tokens))) / trained
    assert result.facts["eval_loss"] == pytest.approx(loss, rel=1e-4)


def test_loftq_starts_nearer_to_the_exact_model(tiny_llama: Path) -> None:
    from edgeft.training.adapter import make
    from edgeft.training.arguments import Settings

    exact = logits(open_base(tiny_llama, device="cpu", dtype="float32"))
    distances = {}
    for init in ("default", "loftq"):
        model = open_base(tiny_llama, four_bit=True, device="cpu")
        tuned = make(model, Settings(lora_init=init, lora_r=16), base=tiny_llama).model
        distances[init] = float((logits(tuned) - exact).norm())
    assert distances["loftq"] < 0.9 * distances["default"]


def test_full_fine_tuning_is_a_checkpoint_of_its_own(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = {"adapter": "full", "max_steps": 3, "learning_rate": 1e-3, "eval_steps": 1, "save_steps": 2}
    result = run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    assert not result.facts["quantized"]
    ours = logits(open_tuned(tiny_llama, tmp_path / "a", device="cpu"))
    theirs = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float((ours - logits(open_base(tiny_llama, device="cpu"))).abs().max()) > 1e-2
    merged = open_weights(tiny_llama, tmp_path / "a")
    assert set(merged) == set(open_weights(tiny_llama))
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tiny_llama / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_full_fine_tuning_resumes_to_the_same_bytes(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    from tests.training.test_resume import Killed, stop_at

    settings = {"adapter": "full", "max_steps": 5, "save_steps": 2, "keep_best": True, "eval_steps": 2}
    run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    with pytest.raises(Killed):
        run_training(tmp_path / "b", tiny_llama, tiny_dataset, listen=stop_at(4), **settings)
    assert run_training(tmp_path / "b", tiny_llama, tiny_dataset, **settings).measurements["resumed_from_step"] == 2
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_layers_and_parts(tiny_llama: Path) -> None:
    model = open_base(tiny_llama, device="cpu")
    assert target_modules(model, "all-linear", None) == "all-linear"
    assert len(target_modules(model, "all-linear", [0, 1])) == 14
    assert target_modules(model, ["q_proj"], [-1, -1]) == ["model.layers.1.self_attn.q_proj"]
    assert all("mlp" in name for name in target_modules(model, "mlp", None))
    with pytest.raises(ModelError, match=r"lora_layers \[0, 5\] are not layers of the model"):
        target_modules(model, "mlp", [0, 5])


def test_tokens_that_are_none(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trainable_tokens: '<tool>' is no token of the base model"):
        run_training(tmp_path / "a", tiny_llama, tiny_dataset, trainable_tokens=["<tool>"])
