"""Files in shards: llama.cpp opens them, and together they are the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from tests.exporters.gguf.made import exported


def test_shards_hold_the_file_and_llama_cpp_opens_them(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    whole, _ = exported(source, "q8_0", tmp_path / "whole")
    first, done = exported(source, "q8_0", tmp_path / "split", max_shard_size="300KB")
    paths = sorted((tmp_path / "split").glob("*.gguf"))
    assert len(paths) > 3
    assert [path.name for path in paths] == done.facts["shards"]
    assert first.name == f"tiny-q8_0-00001-of-{len(paths):05d}.gguf"
    assert done.facts["size"] == sum(path.stat().st_size for path in paths)
    assert "llama-gguf-split --merge" in (tmp_path / "split" / "README.md").read_text()
    readers = [gguf.GGUFReader(path) for path in paths]
    one = gguf.GGUFReader(whole)
    found = [tensor for reader in readers for tensor in reader.tensors]
    assert [tensor.name for tensor in found] == [tensor.name for tensor in one.tensors]
    for ours, theirs in zip(found, one.tensors, strict=True):
        assert (ours.tensor_type, bytes(ours.data)) == (theirs.tensor_type, bytes(theirs.data)), ours.name
    for number, reader in enumerate(readers):
        assert reader.fields["split.no"].contents() == number
        assert reader.fields["split.count"].contents() == len(paths)
        assert reader.fields["split.tensors.count"].contents() == len(found)
    assert {key for key in one.fields if "." in key} < set(readers[0].fields)
    assert not any(key.startswith(("general.", "llama.", "tokenizer.")) for key in readers[1].fields)
    assert all(sum(tensor.n_bytes for tensor in reader.tensors) <= 300_000 for reader in readers)
    ids = [299, 17, 33, 250, 4, 99]
    split, plain = opened(first), opened(whole)
    for model in (split, plain):
        model.eval(ids)
    assert np.array_equal(np.array(split.scores[:6]), np.array(plain.scores[:6]))


def test_a_file_that_fits_is_not_split(source: ExportSource, tmp_path: Path) -> None:
    path, done = exported(source, "q8_0", tmp_path, max_shard_size="5GB")
    assert path.name == "tiny-q8_0.gguf"
    assert "shards" not in done.facts


def test_the_folder_of_shards_opens(source: ExportSource, tmp_path: Path) -> None:
    from edgeft.runtimes import open_runtime

    first, _ = exported(source, "q8_0", tmp_path, max_shard_size="500KB")
    with open_runtime(tmp_path) as runtime:
        assert runtime.vocab_size == 320
    sorted(tmp_path.glob("*.gguf"))[-1].unlink()
    with pytest.raises(ModelError, match=r"one \.gguf file is expected"):
        open_runtime(tmp_path)
    assert first.exists()
