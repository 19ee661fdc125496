"""Importance matrices in files: llama.cpp's quantizer, given the same matrix, makes the same bytes; both forms are
read; what needs one refuses without."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from edgeft.errors import InputError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.families import family_of
from edgeft.exporters.gguf.ggml import log_text
from edgeft.exporters.gguf.imatrix import Entry, Imatrix, read_imatrix, write_imatrix
from edgeft.exporters.gguf.types import TENSOR_TYPES, TYPES
from edgeft.weights import open_weights
from edgeft.weights.checkpoint import read_config
from tests.exporters.gguf.families_made import make_model
from tests.exporters.gguf.made import exported, requantized
from tests.models_made import make_llama

QUANTIZED = [name for name, kind in TYPES.items() if not kind.plain]
SEARCHED = ("iq1_m", "iq1_s", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq3_xs", "iq3_xxs")  # long searches in grids


def slow_searches(names: Sequence[str], more: Sequence[str] = ()) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in (*SEARCHED, *more) else ()) for name in names]


def made(base: Path, path: Path, *, seed: int = 3) -> Imatrix:
    """A matrix of random sums and counts for all weights of the blocks of a base, in a file."""
    config = read_config(base)
    tensors = family_of(config).tensors(config, open_weights(base))
    draw = np.random.default_rng(seed)
    entries = {}
    for name, tensor in tensors.items():
        if name.startswith("blk.") and len(tensor.shape) > 1:
            matrices = tensor.shape[0] if len(tensor.shape) > 2 else 1
            sums = draw.exponential(size=(matrices, tensor.shape[-1])) ** 2 * 100
            counts = np.array([700] * matrices, dtype=np.float32)
            counts[1:2] = 0
            entries[name] = Entry((sums * (counts[:, None] > 0)).astype(np.float32), counts)
    write_imatrix(path, Imatrix(entries, ("rows of a test",), 3, 512))
    return read_imatrix(path)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    """Layers and groups enough for every branch of the mixes: eight layers, four queries a key."""
    folder = tmp_path_factory.mktemp("deep")
    base = make_llama(folder / "base", intermediate=256, layers=8, heads=4, kv_heads=1, tied=False)
    return ExportSource(base, name="deep")


@pytest.fixture(scope="module")
def plain(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(source, "bf16", tmp_path_factory.mktemp("plain"))[0]


@pytest.fixture(scope="module")
def deep_plain(deep: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(deep, "bf16", tmp_path_factory.mktemp("deep-plain"))[0]


@pytest.mark.parametrize("type_name", slow_searches(QUANTIZED, ["iq3_s", "iq3_m"]))
def test_with_a_matrix_byte_for_byte_what_llama_cpp_makes(
    source: ExportSource, plain: Path, type_name: str, tmp_path: Path
) -> None:
    """The whole file: the types that are chosen otherwise when there is a matrix, and the quants chosen by it."""
    imatrix = made(source.base, tmp_path / "imatrix.gguf")
    ours, done = exported(source, type_name, tmp_path / "ours", imatrix=tmp_path / "imatrix.gguf")
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf", imatrix)
    assert done.facts["imatrix"]["without"] == ["token_embd.weight"]
    assert done.facts["imatrix"]["chunks"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("type_name", QUANTIZED)
def test_deep_models_too(deep: ExportSource, deep_plain: Path, type_name: str, given: bool, tmp_path: Path) -> None:
    if TYPES[type_name].imatrix and not given:
        pytest.skip("needs a matrix")
    imatrix = made(deep.base, tmp_path / "imatrix.gguf") if given else None
    options = {"imatrix": tmp_path / "imatrix.gguf"} if given else {}
    ours, _ = exported(deep, type_name, tmp_path / "ours", **options)
    assert ours.read_bytes() == requantized(deep_plain, type_name, tmp_path / "theirs.gguf", imatrix)


def test_a_matrix_changes_the_quants(source: ExportSource, tmp_path: Path) -> None:
    """Else the test above would compare two files that both ignore it."""
    made(source.base, tmp_path / "imatrix.gguf")
    without, _ = exported(source, "q4_k_s", tmp_path / "a")
    with_it, _ = exported(source, "q4_k_s", tmp_path / "b", imatrix=tmp_path / "imatrix.gguf")
    first, second = (
        {tensor.name: bytes(tensor.data) for tensor in gguf.GGUFReader(path).tensors} for path in (without, with_it)
    )
    assert {name for name in first if first[name] != second[name]} == {
        name for name in first if name.startswith("blk.") and "norm" not in name
    }


@pytest.mark.parametrize(
    "type_name", slow_searches(["q4_0", "q4_k_m", "iq4_xs", "q2_k_s"], ["q4_k_m", "iq4_xs", "q2_k_s"])
)
def test_experts_each_have_their_own(type_name: str, tmp_path: Path) -> None:
    """Also an expert that saw no token."""
    base = make_model(tmp_path / "base", "qwen3moe")
    imatrix = made(base, tmp_path / "imatrix.gguf")
    source = ExportSource(base, name="moe")
    plain, _ = exported(source, "bf16", tmp_path / "plain")
    ours, _ = exported(source, type_name, tmp_path / "ours", imatrix=tmp_path / "imatrix.gguf")
    assert any(len(entry.counts) > 1 for entry in imatrix.entries.values())
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf", imatrix)


# --- types of single tensors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor_types", "named"),
    [
        ({r"blk\.0\..*": "q8_0", "ffn_down": "q6_k"}, {}),
        ({"attn_v": "q2_k", "ffn_(up|gate)": "q5_1"}, {"token_embedding_type": "q4_0"}),
        pytest.param({"attn_v": "iq2_xxs", "ffn_up": "iq3_s"}, {}, marks=pytest.mark.slow),
        ({}, {"output_tensor_type": "q5_k"}),
        ({"attn_q": "f16", "attn_k": "bf16"}, {"token_embedding_type": "iq4_nl", "output_tensor_type": "q4_k"}),
    ],
)
def test_overrides_are_those_of_llama_cpp(
    deep: ExportSource, deep_plain: Path, tensor_types: dict[str, str], named: dict[str, str], tmp_path: Path
) -> None:
    imatrix = made(deep.base, tmp_path / "imatrix.gguf")
    options: dict[str, Any] = {"tensor_types": tensor_types, **named, "imatrix": tmp_path / "imatrix.gguf"}
    ours, _ = exported(deep, "q4_k_m", tmp_path / "ours", **options)
    theirs = requantized(deep_plain, "q4_k_m", tmp_path / "theirs.gguf", imatrix, tensor_types, **named)
    assert ours.read_bytes() == theirs
    assert theirs != requantized(deep_plain, "q4_k_m", tmp_path / "usual.gguf", imatrix)


@pytest.mark.parametrize("tensor_type", slow_searches(TENSOR_TYPES))
def test_every_type_of_a_tensor(source: ExportSource, plain: Path, tensor_type: str, tmp_path: Path) -> None:
    imatrix = made(source.base, tmp_path / "imatrix.gguf")
    options: dict[str, Any] = {"tensor_types": {"blk.1.ffn_up": tensor_type}, "imatrix": tmp_path / "imatrix.gguf"}
    ours, _ = exported(source, "q8_0", tmp_path / "ours", **options)
    theirs = requantized(plain, "q8_0", tmp_path / "theirs.gguf", imatrix, options["tensor_types"])
    assert ours.read_bytes() == theirs
    found = {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(ours).tensors}
    assert found["blk.1.ffn_up.weight"] == tensor_type


def test_what_overrides_cannot_be(source: ExportSource, tmp_path: Path) -> None:
    for options, says in (
        ({"tensor_types": {"attn": "q4_k_m"}}, "unknown type of a tensor 'q4_k_m'"),
        ({"tensor_types": {"attn_[": "q8_0"}}, "is not a regular expression"),
        ({"token_embedding_type": "iq2_xxs"}, "iq2_xxs cannot be chosen well.*token_embd"),
        ({"tensor_types": {"attn_q": "iq3_xxs"}}, "iq3_xxs cannot be chosen well.*attn_q"),
        ({"max_shard_size": "two"}, "'two' is not the size"),
    ):
        with pytest.raises(Exception, match=says):
            exported(source, "q4_k_m", tmp_path, **options)
    with pytest.raises(InputError, match="unquantized"):
        exported(source, "f16", tmp_path, tensor_types={"attn": "q8_0"})
    assert not list(tmp_path.iterdir())


# --- what needs one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", QUANTIZED)
def test_types_that_need_a_matrix_are_those_of_llama_cpp(
    source: ExportSource, plain: Path, type_name: str, tmp_path: Path
) -> None:
    """Where its quantizer refuses ours does, in time and in words; and nowhere else."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[type_name].number, 1
    with log_text() as lines:
        code = llama_cpp.llama_model_quantize(
            str(plain).encode(), str(tmp_path / "theirs.gguf").encode(), ctypes.byref(params)
        )
    refused = code != 0 and "imatrix" in "".join(lines)
    assert refused == TYPES[type_name].imatrix
    if not refused:
        exported(source, type_name, tmp_path / "ours")
        return
    with pytest.raises(InputError, match="cannot be chosen well without an importance matrix") as caught:
        exported(source, type_name, tmp_path / "ours")
    assert "imatrix: true" in str(caught.value)
    assert not list((tmp_path / "ours").iterdir())


def test_a_matrix_that_lacks_a_weight_or_is_of_another_model(source: ExportSource, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    found = made(source.base, path)
    entries = dict(found.entries)
    del entries["blk.1.attn_q.weight"]
    write_imatrix(path, Imatrix(entries, ("x",), 1, 512))
    with pytest.raises(InputError, match=r"lacks blk\.1\.attn_q"):
        exported(source, "iq2_xxs", tmp_path / "out", imatrix=path)
    _, done = exported(source, "q4_k_m", tmp_path / "out", imatrix=path)
    assert done.facts["imatrix"]["without"] == ["blk.1.attn_q.weight", "token_embd.weight"]
    narrow = Entry(np.ones((1, 128), dtype=np.float32), np.ones(1, dtype=np.float32))
    write_imatrix(path, Imatrix({**entries, "blk.1.attn_q.weight": narrow}, ("x",), 1, 512))
    with pytest.raises(InputError, match="128 values for blk"):
        exported(source, "q4_k_m", tmp_path / "more", imatrix=path)


# --- the files ------------------------------------------------------------------------------------------------------


def test_a_round_trip_and_experts(tmp_path: Path) -> None:
    sums = np.arange(12, dtype=np.float32).reshape(3, 4)
    entries = {
        "blk.0.ffn_up_exps.weight": Entry(sums, np.array([2, 0, 5], dtype=np.float32)),
        "blk.0.attn_q.weight": Entry(sums[:1], np.array([7], dtype=np.float32)),
    }
    write_imatrix(tmp_path / "a.gguf", Imatrix(entries, ("one", "two"), 9, 256))
    write_imatrix(tmp_path / "b.gguf", read_imatrix(tmp_path / "a.gguf"))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    found = read_imatrix(tmp_path / "b.gguf")
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("one", "two"), 9, 256)
    means = found.importance("blk.0.ffn_up_exps.weight", (3, 64, 4))
    assert means is not None
    assert np.array_equal(means, np.array([[0, 0.5, 1, 1.5], [1, 1, 1, 1], [1.6, 1.8, 2, 2.2]], dtype=np.float32))
    assert found.importance("blk.0.attn_k.weight", (4, 4)) is None
    assert "general.architecture" not in gguf.GGUFReader(tmp_path / "a.gguf").fields


def dat(entries: Mapping[str, tuple[int, list[float]]], tail: bytes = b"") -> bytes:
    """llama.cpp's older form."""
    parts = [struct.pack("<i", len(entries))]
    for name, (calls, values) in entries.items():
        parts += [struct.pack("<i", len(name)), name.encode(), struct.pack("<ii", calls, len(values))]
        parts.append(struct.pack(f"<{len(values)}f", *values))
    return b"".join(parts) + tail


def test_the_older_form(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(dat({"blk.0.attn_q.weight": (4, [2.0, 6.0])}, struct.pack("<ii", 11, 3) + b"abc"))
    found = read_imatrix(path)
    assert (found.datasets, found.chunk_count) == (("abc",), 11)
    means = found.importance("blk.0.attn_q.weight", (8, 2))
    assert means is not None
    assert means.tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an importance matrix"),
        (b"hello, I am a text file of some length", "not an importance matrix"),
        (dat({"blk.0.attn_q.weight": (4, [2.0, 6.0])})[:-3], "not an importance matrix"),
        (dat({"blk.0.attn_q.weight": (4, [float("nan")])}), "NaN"),
        (dat({}), "empty"),
        (b"GGUF" + bytes(20), "not an importance matrix"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_imatrix(path)


def test_a_model_is_no_matrix(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="type is 'model'"):
        read_imatrix(plain)
    with pytest.raises(InputError, match="no such file"):
        read_imatrix(tmp_path / "none.gguf")
