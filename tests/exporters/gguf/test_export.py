"""One pass from base and adapter to GGUF: llama.cpp's own quantizer makes the same bytes, its runtime same answers."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.exporters.gguf.types import TYPES
from edgeft.progress import Progress
from edgeft.weights import open_weights
from tests.exporters.gguf.made import exported, requantized
from tests.models_made import make_llama

QUANTIZED = [name for name, kind in TYPES.items() if not (kind.plain or kind.imatrix)]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    """Widths that K-quants (96) and partly even 32-value blocks (80) do not divide; its head is not tied."""
    folder = tmp_path_factory.mktemp("narrow")
    return ExportSource(make_llama(folder / "base", hidden=96, intermediate=80, head_dim=24, tied=False), name="narrow")


@pytest.mark.parametrize("type_name", QUANTIZED)
def test_byte_for_byte_what_llama_cpp_quantizes(source: ExportSource, type_name: str, tmp_path: Path) -> None:
    """The whole file, header included: types, order and bytes are llama.cpp's own."""
    plain, _ = exported(source, "bf16", tmp_path / "plain")
    ours, done = exported(source, type_name, tmp_path / "ours", threads=3)
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf")
    assert done.facts["fallbacks"] == {}
    assert done.facts["size"] == ours.stat().st_size


@pytest.mark.parametrize("type_name", ["q8_0", "q4_k_m", "q4_0", "iq4_xs"])
def test_widths_that_a_type_cannot_hold_fall_back_as_llama_cpp_does(
    narrow: ExportSource, type_name: str, tmp_path: Path
) -> None:
    plain, _ = exported(narrow, "bf16", tmp_path / "plain")
    ours, done = exported(narrow, type_name, tmp_path / "ours")
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf")
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(ours).tensors}
    assert done.facts["fallbacks"]
    for name, (meant, got) in done.facts["fallbacks"].items():
        assert types[name] == got != meant, name


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_checkpoint_dtypes(dtype: str, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", dtype=dtype)
    plain, _ = exported(ExportSource(base), "f16" if dtype == "float16" else "f32", tmp_path / "plain")
    ours, _ = exported(ExportSource(base), "q4_k_m", tmp_path / "ours")
    assert ours.read_bytes() == requantized(plain, "q4_k_m", tmp_path / "theirs.gguf")


def test_f16_holds_the_merged_values(source: ExportSource, tmp_path: Path) -> None:
    """Rounded to the checkpoint's bfloat16 first, as the merged checkpoint is; q and k rows in llama.cpp's order."""
    path, _ = exported(source, "f16", tmp_path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = open_weights(source.base, source.adapter, merge_base="pristine")
    names = {
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "token_embd.weight": "model.embed_tokens.weight",
    }
    for theirs, ours in names.items():
        assert tensors[theirs].tensor_type == gguf.GGMLQuantizationType.F16
        assert np.array_equal(tensors[theirs].data, weights[ours].read().half().numpy())
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    query = weights["model.layers.1.self_attn.q_proj.weight"].read().half()
    pairs = query.reshape(4, 2, 32, 256).transpose(1, 2).reshape(256, 256)
    assert np.array_equal(tensors["blk.1.attn_q.weight"].data, pairs.numpy())
    assert "output.weight" not in tensors  # tied


def test_the_same_bytes_again_and_with_other_threads(source: ExportSource, tmp_path: Path) -> None:
    first, _ = exported(source, "q4_k_m", tmp_path / "a", threads=1)
    second, _ = exported(source, "q4_k_m", tmp_path / "b", threads=2)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "README.md").read_bytes() == (tmp_path / "b" / "README.md").read_bytes()


def test_who_quantizes_does_not_show(source: ExportSource, tmp_path: Path) -> None:
    made = {}
    for quantizer in ("fast", "ggml"):
        path, done = exported(source, "q4_k_m", tmp_path / quantizer, quantizer=quantizer, threads=2)
        made[quantizer] = path.read_bytes()
        wanted = ["q4_k", "q6_k"] if quantizer == "fast" else []
        assert done.measurements["fast_types"] == wanted
    assert made["fast"] == made["ggml"]


@pytest.mark.parametrize("chunk_rows", [16, 64, 100])
def test_chunks_do_not_show(
    source: ExportSource, chunk_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = exported(source, "q4_k_m", tmp_path / "whole")
    monkeypatch.setattr("edgeft.weights.deferred.Deferred.rows_for", lambda self, nbytes=0: chunk_rows)
    pieces, _ = exported(source, "q4_k_m", tmp_path / "pieces")
    assert whole.read_bytes() == pieces.read_bytes()


def test_progress_counts_every_byte(source: ExportSource, tmp_path: Path) -> None:
    seen: list[Progress] = []
    export(source, "q8_0", tmp_path, {"threads": 1}, seen.append)
    assert [item.done for item in seen] == sorted(item.done for item in seen)
    assert seen[-1].done == seen[-1].total


def test_facts_and_metadata(source: ExportSource, tmp_path: Path) -> None:
    path, done = exported(source, "q4_k_m", tmp_path)
    assert done.facts["tensors"] == {"f32": 5, "q4_k": 12, "q6_k": 3}
    assert done.facts["merge_base"] == "pristine"
    assert done.facts["base"] == "builtin:tiny"
    fields = gguf.GGUFReader(path).fields
    assert fields["general.file_type"].contents() == 15
    assert fields["general.name"].contents() == "tiny"
    assert fields["general.base_model.0.name"].contents() == "builtin:tiny"
    assert fields["llama.attention.head_count_kv"].contents() == 2
    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"
    assert fields["tokenizer.chat_template"].contents() == (source.base / "chat_template.jinja").read_text()
    json.dumps(dict(done.facts), allow_nan=False)
    assert path.name in (tmp_path / "README.md").read_text()
