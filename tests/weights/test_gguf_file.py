"""A GGUF file as weights: ggml's own values; compared with what it was made of; and what is no GGUF file."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeft.cli.main import main
from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.weights.gguf_file import open_gguf


def made(base: Path, adapter: Path | None, kind: str, folder: Path) -> Path:
    folder.mkdir()
    export(ExportSource(base, adapter, name="m", base_ref="m"), kind, folder, {"threads": 1})
    return next(folder.glob("*.gguf"))


class Traits(ctypes.Structure):
    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def by_ggml(data: np.ndarray, number: int, count: int) -> np.ndarray:
    """ggml's own `to_float` of packed bytes."""
    from edgeft.exporters.gguf import ggml

    lib = ggml.library()
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    traits = lib.ggml_get_type_traits(number).contents
    packed, values = np.ascontiguousarray(data), np.empty(count, np.float32)
    traits.to_float(packed.ctypes.data, values.ctypes.data, count)
    return values


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m", "q5_0", "iq4_xs", "bf16", "f16"])
def test_values_are_those_of_ggml(tiny_llama: Path, tmp_path: Path, kind: str) -> None:
    from gguf import GGUFReader

    path = made(tiny_llama, None, kind, tmp_path / "out")
    found = open_gguf(path)
    for raw in GGUFReader(path).tensors:
        tensor = found[raw.name]
        values = tensor.read()
        assert tuple(values.shape) == tensor.shape == tuple(reversed(raw.shape.tolist()))
        assert torch.equal(torch.cat(list(tensor.chunks(7))), values)
        if raw.tensor_type.name not in ("F32", "F16", "BF16"):
            wanted = by_ggml(raw.data, int(raw.tensor_type), tensor.numel)
            assert np.array_equal(values.numpy().reshape(-1), wanted), raw.tensor_type.name
        elif raw.tensor_type.name != "BF16":
            assert np.array_equal(values.numpy(), raw.data.reshape(tensor.shape))


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_k_m"])
def test_check_of_a_gguf_file(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = made(tiny_llama, tiny_adapter, kind, tmp_path / "out")
    given = ["merge", "--base", str(tiny_llama), "--adapter", str(tiny_adapter), "--check", str(path), "--json"]
    assert main(given) == 0
    types = json.loads(capsys.readouterr().out)["types"]
    assert types["F32"]["equal"] == types["F32"]["tensors"] == 5
    limits = {"F16": 1e-6, "BF16": 0.0, "Q8_0": 0.01, "Q4_K": 0.1, "Q6_K": 0.03}
    assert all(of["largest"] <= limits[name] for name, of in types.items() if name != "F32")
    assert main([*given[:5], "--scale", "0.5", *given[5:]]) == (4 if kind in ("f16", "bf16") else 0)


def test_another_model_s_file_is_told(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    from tests.models_made import make_llama

    other = make_llama(tmp_path / "other", seed=5)
    path = made(other, None, "q4_k_m", tmp_path / "out")
    given = ["merge", "--base", str(tiny_llama), "--adapter", str(tiny_adapter), "--check", str(path)]
    assert main(given) == 4


@pytest.mark.parametrize(
    "data", [b"", b"GGUF", b"GGUF" + b"\xff" * 60, b"version https://git-lfs.github.com/spec/v1\n", b"x" * 100]
)
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=r"GGUF file|LFS"):
        open_gguf(tmp_path / "m.gguf")


def test_a_truncated_file(tiny_llama: Path, tmp_path: Path) -> None:
    path = made(tiny_llama, None, "q8_0", tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a whole GGUF file"):
        open_gguf(path)
