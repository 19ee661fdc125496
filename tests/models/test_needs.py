"""Estimates against what they estimate: bitsandbytes' buffers, torch's moments, the tensors autograd keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.models import needs
from edgeft.models.shapes import KNOWN, from_config

ONE_B = from_config(KNOWN["meta-llama/Llama-3.2-1B-Instruct"])


def plan(**more: Any) -> needs.TrainingNeeds:
    fields: dict[str, Any] = {"adapter": "qlora", "rank": 16, "batch": 4, "length": 1024, "checkpointing": True}
    return needs.training(ONE_B, **{**fields, **more})


def test_nf4_bytes_are_bitsandbytes() -> None:
    import torch
    from bitsandbytes.functional import quantize_4bit

    values = torch.randn(1024, 2048, generator=torch.Generator().manual_seed(0))
    packed, state = quantize_4bit(values, blocksize=64, compress_statistics=True, quant_type="nf4")
    constants = [state.absmax, state.state2.absmax]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in (packed, *constants))
    assert stored == pytest.approx(values.numel() * needs.NF4_BYTES, rel=1e-9)


def test_optimizer_bytes_are_those_of_torch() -> None:
    import torch

    weight = torch.nn.Parameter(torch.zeros(1000))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(1000)
    optimizer.step()
    moments = [value for value in optimizer.state[weight].values() if value.numel() > 1]
    assert (
        sum(tensor.numel() * tensor.element_size() for tensor in moments) == 1000 * needs.OPTIMIZER_BYTES["adamw_torch"]
    )


def test_the_largest_part_of_a_checkpointed_step_is_the_model() -> None:
    found = plan()
    linear, rest = ONE_B.linear_parameters, ONE_B.parameters - ONE_B.linear_parameters
    assert found.weights == int(linear * needs.NF4_BYTES + 2 * rest)
    assert plan(adapter="lora").weights == 2 * ONE_B.parameters
    assert plan(device="cpu", adapter="lora").weights == 4 * ONE_B.parameters
    assert plan(device="cpu").weights == 4 * ONE_B.parameters  # dequantized once
    assert found.total > found.weights + found.adapter + found.activations + found.logits


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"batch": 1}, {"batch": 8}),
        ({"length": 512}, {"length": 4096}),
        ({"rank": 8}, {"rank": 64}),
        ({"checkpointing": True}, {"checkpointing": False}),
        ({"optimizer": "paged_adamw_8bit"}, {"optimizer": "adamw_torch"}),
        ({"targets": ["q_proj", "v_proj"]}, {"targets": "all-linear"}),
        ({"adapter": "qlora"}, {"adapter": "lora"}),
    ],
)
def test_what_takes_more(less: dict[str, Any], more: dict[str, Any]) -> None:
    assert plan(**less).total < plan(**more).total


def test_the_logits_are_never_held_whole() -> None:
    assert plan(batch=1, length=16).logits == 2 * 4 * 16 * ONE_B.vocab
    assert plan(batch=16, length=4096).logits == 2 * 4 * needs.MOST_LOGITS


def test_activations_of_a_real_step(tiny_llama: Path) -> None:
    """What autograd keeps for backward in a LoRA step, against the estimate without checkpointing: the estimate is
    above it, and below three times it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from edgeft.models.shapes import shape_of

    shape = shape_of(str(tiny_llama))
    assert shape is not None
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    known = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(128).reshape(2, 64) % shape.vocab
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, logits_to_keep=1).logits.sum()
    fields = {"adapter": "lora", "rank": 4, "batch": 2, "length": 64, "checkpointing": False, "device": "cpu"}
    estimated = needs.training(shape, **fields).activations  # type: ignore[arg-type]
    assert sum(kept.values()) < estimated < 3 * sum(kept.values())


def test_operations() -> None:
    assert needs.training_operations(ONE_B, 1000, checkpointing=False) == 4000.0 * ONE_B.parameters - 4000.0 * sum(
        tensor.count for tensor in ONE_B.tensors() if tensor.vector
    )
    assert needs.training_operations(ONE_B, 1000, checkpointing=True) == pytest.approx(
        1.5 * needs.training_operations(ONE_B, 1000, checkpointing=False)
    )


def test_sizes_of_exports() -> None:
    sizes = {name: needs.export_size(ONE_B, name) for name in ("gguf-q4_k_m", "gguf-q8_0", "onnx-int4", "onnx-fp32")}
    assert all(size is not None and size.exact == name.startswith("gguf") for name, size in sizes.items())
    assert needs.export_size(ONE_B, "gguf-unknown") is None
    size = needs.export_size(ONE_B, "gguf-iq4_xs", overrides=True)
    assert size is not None
    assert not size.exact
    assert needs.merged_size(ONE_B).bytes == 2 * ONE_B.parameters
    assert needs.export_memory(ONE_B, "gguf-q4_k_m") < 4 * ONE_B.parameters < needs.export_memory(ONE_B, "onnx-int4")
