"""Checkpoint folders and safetensors files: read by rows, and nothing they say is trusted."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.weights.checkpoint import INDEX, open_checkpoint
from edgeft.weights.safetensors import open_file, read_header
from tests.models_made import make_llama


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, shard_size="60KB")


def write_raw(path: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(10, 3).bfloat16(),
        "vector": torch.arange(5.0),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "cube": torch.randn(4, 2, 3).half(),
        "bytes": torch.arange(6, dtype=torch.uint8),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    opened = open_file(tmp_path / "x.safetensors")
    for name, expected in tensors.items():
        assert opened[name].shape == tuple(expected.shape)
        assert opened[name].nbytes == expected.nbytes
        found = opened[name].read()
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert torch.equal(opened["cube"].rows(1, 3), tensors["cube"][1:3])


def test_files_are_closed_after_each_read(sharded: Path) -> None:
    import psutil

    weights = open_checkpoint(sharded)
    assert not any(item.path.endswith(".safetensors") for item in psutil.Process().open_files())
    for tensor in weights.values():
        chunks = tensor.chunks(1)
        next(chunks)
        assert not any(item.path.endswith(".safetensors") for item in psutil.Process().open_files())


def test_shards_hold_all_tensors(sharded: Path) -> None:
    from transformers import AutoModelForCausalLM

    expected = AutoModelForCausalLM.from_pretrained(sharded, dtype="auto").state_dict()
    weights = open_checkpoint(sharded)
    assert set(weights) == set(expected) - {"lm_head.weight"}
    for name, tensor in weights.items():
        assert torch.equal(tensor.read(), expected[name])


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry([2], 0, 8)}, b"\0" * 4, "ends at byte"),
        ({"a": entry([2], 0, 8)}, b"\0" * 12, "accounts for"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12, "overlaps"),
        ({"a": entry([2], 0, 8), "b": entry([1], 12, 16)}, b"\0" * 16, "hole"),
        ({"a": entry([3], 0, 8)}, b"\0" * 8, "its shape needs 12"),
        ({"a": entry([-2], 0, 8)}, b"\0" * 8, "absurd"),
        ({"a": entry([1 << 62, 1 << 62], 0, 8)}, b"\0" * 8, "its shape needs"),
        ({"a": entry([True, 2], 0, 8)}, b"\0" * 8, "absurd"),
        ({"a": entry([2], 0, 8, "F4")}, b"\0" * 8, "F4"),
        ({"a": {"dtype": "F32"}}, b"", "not complete"),
        ({"a": 3}, b"", "not complete"),
        ([1, 2], b"", "not a table"),
        (b'{"a": ', b"", "not JSON"),
        (b"\xff\xfe{}", b"", "not JSON"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"[" * 100_000, b"", "not JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, header: Any, data: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        read_header(write_raw(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("length", [0, 1 << 40, (1 << 64) - 1])
def test_absurd_header_lengths(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match="header says"):
        read_header(write_raw(tmp_path / "x.safetensors", {}, b"", length=length))


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_reader(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    try:
        read_header(path)
    except ModelError:
        return
    assert len(load_file(path)) == len(open_file(path))


@given(places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_flipped_header_byte_breaks_the_reader(
    places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, path)
    raw = bytearray(path.read_bytes())
    for place, value in places:
        raw[place % len(raw)] = value
    path.write_bytes(bytes(raw))
    try:
        opened = open_file(path)
    except ModelError:
        return
    for tensor in opened.values():
        assert tensor.read().shape == tensor.shape


def test_truncated_after_opening(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1000)}, tmp_path / "x.safetensors")
    tensor = open_file(tmp_path / "x.safetensors")["a"]
    with (tmp_path / "x.safetensors").open("r+b") as stream:
        stream.truncate(2000)
    with pytest.raises(ModelError, match="ends inside 'a'"):
        tensor.read()


def _pointer(folder: Path) -> None:
    first = min(folder.glob("*.safetensors"))
    first.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n")


def _missing(folder: Path) -> None:
    min(folder.glob("*.safetensors")).unlink()


def _index(**weight_map: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    return write


def _broken_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def _link(folder: Path) -> None:
    first = min(folder.glob("*.safetensors"))
    outside = folder.parent / "outside.safetensors"
    shutil.move(first, outside)
    first.symlink_to(outside)


def _pickle(folder: Path) -> None:
    (folder / INDEX).unlink()
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_pointer, "LFS pointer"),
        (_missing, "is missing"),
        (_index(w="../../etc/passwd.safetensors"), "path in its name"),
        (_index(w="/etc/passwd"), "not safetensors|not a safetensors"),
        (_index(), "no weight_map"),
        (_broken_index, "not JSON"),
        (_link, "leads out of"),
        (_pickle, "pickle"),
    ],
)
def test_hostile_folders(sharded: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(sharded)
    with pytest.raises(ModelError, match=says):
        open_checkpoint(sharded)


def test_index_that_promises_too_much(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["model.ghost.weight"] = next(iter(index["weight_map"].values()))
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelError, match="promises"):
        open_checkpoint(sharded)


def test_links_of_the_hub_cache_are_followed(sharded: Path, tmp_path: Path) -> None:
    """snapshots/COMMIT/x is a link to ../../blobs/HASH there."""
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(sharded.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert set(open_checkpoint(snapshot)) == set(open_checkpoint(sharded))
