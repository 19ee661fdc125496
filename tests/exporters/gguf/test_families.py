"""Every family in llama.cpp's runtime against Transformers; against llama.cpp's converter and quantizer in
test_families_oracle.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.exporters.gguf.families import family_of
from edgeft.weights import open_weights
from tests.exporters.gguf.families_made import LLAMA3, LONG, MODELS, make_model
from tests.models_made import make_adapter

IDS = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200, 61, 150, 88, 9, 31, 276, 12, 140]
MORE = 24  # greedy tokens


def gguf_of(base: Path, type_name: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    done = export(ExportSource(base, name="base", base_ref="x"), type_name, folder, {"threads": 1})
    return folder / str(done.facts["file"])


def transformers_says(base: Path, new: int) -> tuple[Any, list[int]]:
    """Logits of every position, and a greedy continuation."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits[0].numpy()
    found = model.generate(ids, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
    return logits, found[0, len(IDS) :].tolist()


def llama_cpp_says(path: Path, new: int, context: int = 256) -> tuple[Any, list[int]]:
    """The same of llama.cpp, with a float32 cache of keys and values."""
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    model = llama_cpp.Llama(str(path), n_ctx=context, logits_all=True, verbose=False, n_threads=1, **exact)
    try:
        model.eval(IDS)
        logits = np.array(model.scores[: len(IDS)])
        found: list[int] = []
        for token in model.generate(IDS, temp=0.0, reset=True):
            found.append(token)
            if len(found) == new:
                return logits, found
    finally:
        model.close()
    raise AssertionError("llama.cpp stopped")


def assert_same_answers(base: Path, path: Path, context: int = 256, new: int = 8, limit: float = 1e-5) -> None:
    want, text = transformers_says(base, new)
    got, found = llama_cpp_says(path, new, context)
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error < limit, error
    assert np.array_equal(got.argmax(-1), want.argmax(-1))
    assert found == text


LARGE = ("exaone4 32b",)  # 64 layers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in MODELS]
)
def test_llama_cpp_answers_as_transformers_does(name: str, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", name)
    row = MODELS[name]
    path = gguf_of(base, "f32", tmp_path / "out")
    assert_same_answers(base, path, row.context, limit=2e-3 if row.gelu else 1e-5)


# --- what a family cannot say ---------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64}, "no sliding window"),
    ("qwen2", {"hidden_act": "gelu"}, "computes silu"),
    ("qwen2", {"head_dim": 32}, "heads of hidden_size"),
    ("qwen2", {"rope_parameters": LLAMA3}, "'llama3'.*\n.*yarn"),
    ("qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "no original_max_position_embeddings"),
    ("qwen3", {"attention_bias": True}, "no bias"),
    ("qwen3", {"rope_parameters": {"full_attention": {}, "sliding_attention": {}}}, "layers that differ"),
    ("qwen3moe", {"norm_topk_prob": False}, "norm_topk_prob is false"),
    ("qwen3moe", {"mlp_only_layers": [0]}, "layers without"),
    ("qwen3moe", {"num_local_experts": None, "num_experts": None}, "no num_experts"),
    ("mixtral", {"hidden_act": "gelu"}, "computes silu"),
    ("qwen2moe", {"norm_topk_prob": True}, "norm_topk_prob is true"),
    ("qwen2moe", {"decoder_sparse_step": 2}, "layers without"),
    ("cohere2", {"sliding_window": None}, "sliding_window is null"),
    ("cohere2", {"tie_word_embeddings": False}, "output layer of its own"),
    ("cohere2", {"logit_scale": 0.0}, "logit_scale of 0"),
    ("cohere2", {"attention_bias": True}, "no biases"),
    ("cohere2", {"use_qk_norm": True}, "no norms of q and k"),
    ("hunyuan", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "'dynamic' without alpha"),
    ("hunyuan", {"attention_bias": True}, "no biases"),
    ("mistral", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ("mistral", {"partial_rotary_factor": 0.5}, "rotates whole heads"),
    ("gemma2", {"attn_logit_softcapping": None}, "always caps"),
    ("gemma2", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar is 64"),
    ("gemma2", {"hidden_activation": "gelu"}, "gelu_pytorch_tanh"),
    ("gemma3", {"attention_bias": True}, "no biases"),
    ("gemma3", {"layer_types": ["sliding_attention"]}, "layer_types"),
    ("gemma3", {"use_bidirectional_attention": True}, "backwards only"),
    ("phi3 long", {"rope_parameters": {**LONG, "long_factor": [1.0]}}, "32 numbers as its long_factor"),
    ("phi3", {"head_dim": 32}, "heads of hidden_size"),
    ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 1]}, "every fourth layer"),
    ("smollm3", {"attention_bias": True}, "no biases"),
    ("granite", {"residual_multiplier": 0.0}, "residual_multiplier is 0"),
    ("olmo2", {"tie_word_embeddings": True}, "output layer of its own"),
    ("granite 4", {"layer_types": ["mamba", "attention"]}, "without state-space"),
    ("granite 4", {"num_local_experts": 4}, "without experts"),
    ("olmo3", {"rope_theta": 1e4, "rope_parameters": None}, "one base"),
    ("exaone4", {"sliding_window": 8}, "layers and no others"),
    ("seed_oss", {"attention_out_bias": True}, "no biases"),
    ("starcoder2", {"use_bias": False}, "needs biases"),
    ("ernie4_5", {"use_bias": True}, "no biases"),
    ("gemma", {"tie_word_embeddings": False}, "no output layer"),
    ("stablelm", {"layer_norm_eps": "x"}, "no layer_norm_eps"),
    ("gpt2", {"activation_function": "relu"}, "computes gelu_new"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"n_positions": None, "n_ctx": None}, "no max_position_embeddings"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each model once."""
    folder = tmp_path_factory.mktemp("made")

    def find(name: str) -> Path:
        return folder / name if (folder / name).is_dir() else make_model(folder / name, name)

    return find


@pytest.mark.parametrize(
    ("name", "changes", "says"), REFUSED, ids=[f"{row[0]} {next(iter(row[1]))}" for row in REFUSED]
)
def test_what_llama_cpp_cannot_say_is_refused(name: str, changes: dict[str, Any], says: str, made: Any) -> None:
    config = {**json.loads((made(name) / "config.json").read_text()), **changes}
    with pytest.raises(ModelError, match=says):
        family_of(config).check(config)


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if not row.older])
def test_a_tensor_too_many_too_few_or_of_another_size(name: str, made: Any) -> None:
    base = made(name)
    config = json.loads((base / "config.json").read_text())
    family, weights = family_of(config), open_weights(base)
    family.check(config)
    one = next(name for name in weights if name.endswith("weight"))
    with pytest.raises(ModelError, match=r"does not know the tensor 'model\.layers\.0\.extra\.weight'"):
        family.tensors(config, {**weights, "model.layers.0.extra.weight": weights[one]})
    for lost in weights:
        if lost.endswith((".0.self_attn.v_proj.weight", ".1.mlp.down_proj.weight", ".attn.c_proj.bias", "norm.weight")):
            with pytest.raises(ModelError, match=r"has no tensor|of the \d+ matrices"):
                family.tensors(config, {name: tensor for name, tensor in weights.items() if name != lost})
    with pytest.raises(ModelError, match="vocab_size is 7"):
        family.tensors({**config, "vocab_size": 7}, weights)


def test_granite_4_without_rotation(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", "granite 4", position_embedding_type="nope")
    assert_same_answers(base, gguf_of(base, "f32", tmp_path / "out"))


def test_layers_with_a_window_in_another_order(tmp_path: Path) -> None:
    """What llama.cpp's converter takes for granted is written where it is not so."""
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    base = make_model(tmp_path / "base", "gemma3", layer_types=kinds, num_hidden_layers=4)
    assert_same_answers(base, gguf_of(base, "f32", tmp_path / "out"), limit=2e-3)


@pytest.mark.parametrize(
    ("name", "targets"), [("gpt2", ("c_attn", "c_proj", "c_fc")), ("phi3", ("qkv_proj", "gate_up_proj"))]
)
def test_an_adapter_of_turned_and_fused_matrices(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    """Folded into the checkpoint's own matrix, then turned: as peft merges it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_model(tmp_path / "base", name, dtype="float32")
    adapter = make_adapter(tmp_path / "adapter", base, targets=targets, fan_in_fan_out=name == "gpt2")
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    (tmp_path / "out").mkdir()
    done = export(ExportSource(base, adapter, name="a", base_ref="x"), "f32", tmp_path / "out", {"threads": 1})
    path = tmp_path / "out" / str(done.facts["file"])
    assert_same_answers(tmp_path / "merged", path, limit=2e-3 if MODELS[name].gelu else 1e-5)
