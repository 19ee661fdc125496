"""The header of a file, against the gguf package's own writer; and Python's collector, as it was after an export."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edgeft.exporters.gguf import collector
from edgeft.exporters.gguf.header import Header, packed, write_header

METADATA: list[tuple[str, Any, str]] = [
    ("general.name", "naïve 🚀", "string"),
    ("a.uint16", 65535, "uint16"),
    ("a.uint32", 2**32 - 1, "uint32"),
    ("a.int32", -5, "int32"),
    ("a.float32", 1e-5, "float32"),
    ("a.bool", True, "bool"),
    ("a.strings", ["", "ab", "é\n"], "array"),
    ("a.ints", [1, -2, 3], "array"),
    ("a.floats", [0.5, -1.25], "array"),
    ("a.bools", [True, False], "array"),
    ("a.bytes", b"\x00\xff", "array"),
]
SHAPES = {"token_embd.weight": (40, 256), "blk.0.ffn_up_exps.weight": (3, 5, 256), "output_norm.weight": (7,)}
TYPES = {"token_embd.weight": "Q4_K", "blk.0.ffn_up_exps.weight": "Q8_0", "output_norm.weight": "F32"}


def of_gguf(path: Path, arch: str, header: Header) -> bytes:
    writer = gguf.GGUFWriter(path, arch)
    for key, value, kind in header.metadata:
        writer.add_key_value(key, value, gguf.GGUFValueType[kind.upper()])
    for name, type_name in header.types.items():
        raw = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor_info(name, header.shapes[name], np.dtype(np.float32), header.nbytes(name), raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    found = path.read_bytes()
    return found + bytes(-len(found) % 32)


def test_the_bytes_of_the_gguf_package(tmp_path: Path) -> None:
    header = Header("llama", METADATA, SHAPES, TYPES)
    assert packed(header) == of_gguf(tmp_path / "theirs.gguf", "llama", header)
    assert write_header(tmp_path / "ours.gguf", header) == len(packed(header))


def test_empty_arrays_and_an_empty_architecture_are_left_out(tmp_path: Path) -> None:
    write_header(tmp_path / "a.gguf", Header("", [("a.none", [], "array"), ("a.one", 1, "uint32")], {}, {}))
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert [name for name in fields if not name.startswith("GGUF.")] == ["a.one"]


def test_the_collector_comes_back() -> None:
    with pytest.raises(KeyError), collector.paused():  # noqa: PT012
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
