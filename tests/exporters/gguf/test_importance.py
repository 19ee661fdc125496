"""Measuring an importance matrix: against the file of llama.cpp's own tool, and against sums taken by hand."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.errors import ModelError
from edgeft.exporters.gguf import importance
from edgeft.exporters.gguf.imatrix import read_imatrix, write_imatrix
from edgeft.exporters.gguf.importance import compute, watch
from edgeft.progress import Progress
from tests.exporters.gguf.families_made import MODELS, make_model
from tests.models_made import TEXTS, make_llama

GOLDEN = Path(__file__).parents[2] / "golden" / "imatrix" / "imatrix.gguf"


def test_the_numbers_of_llama_cpp_s_own_tool(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, dtype="float32")
    ids = Tokenizer.from_file(str(base / "tokenizer.json")).encode("\n".join(TEXTS * 3)).ids
    theirs = read_imatrix(GOLDEN)
    rows = [ids[at * 64 : (at + 1) * 64] for at in range(theirs.chunk_count)]
    ours, unseen = compute(base, None, rows, dataset="rows.txt")
    assert unseen == []
    assert set(ours.entries) == set(theirs.entries)
    for name, entry in theirs.entries.items():
        assert ours.entries[name].counts.tolist() == entry.counts.tolist() == [len(rows) * 64]
        assert np.allclose(ours.entries[name].sums, entry.sums, rtol=1e-4), name


def test_a_file_of_llama_cpp_written_again_is_the_same(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "again.gguf", read_imatrix(GOLDEN))
    assert (tmp_path / "again.gguf").read_bytes() == GOLDEN.read_bytes()


def test_rows_of_any_length_in_any_batch(tiny_llama: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding counts for nothing, and the adapter counts: against the model's own hidden states, row by row."""
    from edgeft.models.open import open_tuned

    draw = random.Random(4)
    rows = [[draw.randrange(300) for _ in range(length)] for length in (3, 40, 1, 17, 40, 9)]
    seen: list[Progress] = []
    found, _ = compute(tiny_llama, tiny_adapter, rows, dataset="x", listen=seen.append)
    assert (seen[-1].done, seen[-1].total) == (110, 110)
    model = open_tuned(tiny_llama, tiny_adapter).get_base_model()
    want = torch.zeros(256, dtype=torch.float64)
    with torch.no_grad():
        for row in rows:
            states = model(torch.tensor([row]), output_hidden_states=True).hidden_states[1][0]
            want += model.model.layers[1].input_layernorm(states).double().pow(2).sum(0)
    entry = found.entries["blk.1.attn_v.weight"]
    assert entry.counts.tolist() == [110]
    assert np.allclose(entry.sums[0], want.numpy(), rtol=1e-4)
    monkeypatch.setattr(importance, "_BATCH", 1)
    single, _ = compute(tiny_llama, tiny_adapter, rows, dataset="x")
    for name, entry in found.entries.items():
        assert np.allclose(entry.sums, single.entries[name].sums, rtol=1e-4), name
    plain, _ = compute(tiny_llama, None, rows, dataset="x")
    assert not np.allclose(plain.entries["blk.1.ffn_down.weight"].sums, found.entries["blk.1.ffn_down.weight"].sums)


def test_experts_count_the_tokens_routed_to_them() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    settings = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, head_dim=8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtralForCausalLM(settings).eval()
    tensors: dict[str, Any] = {
        "blk.1.attn_q.weight": SimpleNamespace(name="model.layers.1.self_attn.q_proj.weight", shape=(16, 16)),
        "blk.1.ffn_gate_exps.weight": SimpleNamespace(name="stack", shape=(4, 24, 16)),
        "blk.1.ffn_up_exps.weight": SimpleNamespace(name="stack", shape=(4, 24, 16)),
        "blk.1.ffn_down_exps.weight": SimpleNamespace(name="stack", shape=(4, 16, 24)),
        "token_embd.weight": SimpleNamespace(name="model.embed_tokens.weight", shape=(50, 16)),
    }
    rows = [[1, 2, 3, 4, 5, 6, 7], [9, 8, 30]]
    found, unseen = watch(model, tensors, rows)
    assert unseen == []
    caught: list[tuple[torch.Tensor, torch.Tensor]] = []
    experts = model.model.layers[1].mlp.experts
    experts.register_forward_pre_hook(lambda module, given: caught.append((given[0], given[1])))
    sums, downs = torch.zeros(4, 16), torch.zeros(4, 24)
    counts = [0] * 4
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row]))
        for states, chosen in caught:
            for token, names in zip(states, chosen, strict=True):
                for expert in names.tolist():
                    counts[expert] += 1
                    sums[expert] += token**2
                    gate, up = (experts.gate_up_proj[expert] @ token).chunk(2)
                    downs[expert] += (experts.act_fn(gate) * up) ** 2
    for name, want in (("gate", sums), ("up", sums), ("down", downs)):
        entry = found[f"blk.1.ffn_{name}_exps.weight"]
        assert entry.counts.tolist() == counts
        assert sum(counts) == 2 * 10
        assert np.allclose(entry.sums, want.numpy(), rtol=1e-4), name
    assert found["blk.1.attn_q.weight"].counts.tolist() == [10]


@pytest.mark.parametrize("name", MODELS)
def test_every_family_is_watched_whole(name: str, tmp_path: Path) -> None:
    """Fused, stacked and turned weights too; what the checkpoint calls them is found in the model."""
    base = make_model(tmp_path / "base", name)
    found, unseen = compute(base, None, [list(range(20, 50)), list(range(100, 110))], dataset="x")
    assert unseen == []
    for weight, entry in found.entries.items():
        if weight.endswith("_exps.weight"):
            assert len(entry.counts) > 1
            assert entry.counts.sum() % 40 == 0
        else:
            assert entry.counts.tolist() == [40], weight
    assert {name for name in found.entries if not name.endswith("ffn_gate_inp.weight")} == {
        tensor.name
        for tensor in tensors_of(base)
        if tensor.name.startswith("blk.")
        and len(tensor.shape) > 1
        and not tensor.name.endswith(("_norm.weight", "conv.weight", "conv1d.weight", "ffn_gate_inp.weight"))
    }


def test_columns_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Qwen 3.5's linear attention has its heads, and so the columns of what reads them, in llama.cpp's order."""
    from edgeft.exporters.gguf.families import family_of
    from edgeft.exporters.gguf.families.rearranged import ColumnBlocks
    from edgeft.models.open import open_base
    from edgeft.weights import open_weights
    from edgeft.weights.checkpoint import read_config

    base = make_model(tmp_path / "base", "qwen3_5")
    config = read_config(base)
    tensors = family_of(config).tensors(config, open_weights(base))
    moved = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, ColumnBlocks)}
    assert moved
    rows = [list(range(20, 60))]
    in_file, _ = watch(open_base(base), moved, rows)
    in_model, _ = watch(open_base(base), {name: tensor.base for name, tensor in moved.items()}, rows)
    for name, tensor in moved.items():
        order = [column for first, last in tensor.bounds for column in range(first, last)]
        assert order != sorted(order)
        assert np.array_equal(in_file[name].sums, in_model[name].sums[:, order])


def tensors_of(base: Path) -> list[Any]:
    from edgeft.exporters.gguf.families import family_of
    from edgeft.weights import open_weights
    from edgeft.weights.checkpoint import read_config

    config = read_config(base)
    tensors = family_of(config).tensors(config, open_weights(base))
    return [SimpleNamespace(name=name, shape=tensor.shape) for name, tensor in tensors.items()]


def test_without_rows(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="no rows"):
        compute(tiny_llama, None, [], dataset="x")
