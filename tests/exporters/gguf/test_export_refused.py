"""What GGUF export refuses, in time, and that nothing stays behind; names, and adapters made elsewhere."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.errors import InputError, ModelError, StorageError
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf import header, writer
from edgeft.exporters.gguf.export import check, file_name
from tests.exporters.gguf.made import exported
from tests.models_made import make_adapter, make_llama


def test_unknown_type(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match="q4_k_x") as caught:
        check(tiny_llama, "q4_k_x")
    assert "did you mean" in str(caught.value)


def config_with(base: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM.*\n.*LlamaForCausalLM"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"vocab_size": 100}, "vocab_size is 100"),
    ],
)
def test_models_that_gguf_cannot_hold(tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check(config_with(tiny_llama, tmp_path / "base", **changes), "q8_0")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"num_hidden_layers": 3}, "no tensor for 'blk.2"), ({"num_attention_heads": 3}, "3 heads do not divide")],
)
def test_weights_that_do_not_fit_the_config(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    base = config_with(tiny_llama, tmp_path / "base", **changes)
    with pytest.raises(ModelError, match=says):
        exported(ExportSource(base), "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_vocabulary_larger_than_the_tokenizer_is_padded(tiny_llama: Path, opened: Any, tmp_path: Path) -> None:
    """Many checkpoints have a few rows more than tokens."""
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, vocab_size=300)
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([embedding, embedding[:20]])
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    path, done = exported(ExportSource(base), "q8_0", tmp_path / "out")
    assert done.facts["vocab_size"] == 320
    assert opened(path).n_vocab() == 320


def test_values_beyond_float16(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16)
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="16-bit floats") as caught:
        exported(ExportSource(base), "f16", tmp_path / "out")
    assert "bf16" in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
    exported(ExportSource(base), "bf16", tmp_path / "out")


def test_adapter_of_another_base(source: ExportSource, tmp_path: Path) -> None:
    """By its training.json's digest, even when every shape fits."""
    adapter = Path(shutil.copytree(source.adapter or Path(), tmp_path / "adapter"))
    (adapter / "training.json").write_text(json.dumps({"base": {"ref": "some/model", "digest": "0" * 64}}))
    with pytest.raises(ModelError, match="another base model") as caught:
        exported(ExportSource(source.base, adapter), "q8_0", tmp_path / "out")
    assert "some/model" in str(caught.value)


def test_nan_leaves_nothing_behind(source: ExportSource, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = Path(shutil.copytree(source.adapter or Path(), tmp_path / "adapter"))
    tensors = load_file(adapter / "adapter_model.safetensors")
    key = next(key for key in tensors if "layers.1.mlp.down_proj.lora_A" in key)
    tensors[key][0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="NaN"):
        exported(ExportSource(source.base, adapter), "q4_k_m", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_seen_before(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(StorageError, match=r"the disk has 1\.0 kB left"):
        exported(source, "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_fills_up(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    original = writer._write_tensor

    def fail_later(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(writer, "_write_tensor", fail_later)
    with pytest.raises(StorageError, match="full"):
        exported(source, "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_real_limit_of_the_file_size(source: ExportSource, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(StorageError, match="larger than"):
            exported(source, "q8_0", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())


def test_a_read_only_folder(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out"))

    monkeypatch.setattr(writer, "packed", refuse)
    with pytest.raises(StorageError, match="permission denied"):
        exported(source, "q8_0", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "file"),
    [("sprout-tuned", "sprout-tuned-f16.gguf"), ("a/b c:d", "a-b-c-d-f16.gguf"), ("...", "model-f16.gguf")],
)
def test_file_names(name: str, file: str) -> None:
    assert file_name(name, "f16") == file


def test_scratch_files_cannot_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where memory files do not exist, the header's scratch file goes away."""
    monkeypatch.delattr("os.memfd_create")
    with header.scratch_file(tmp_path) as path:
        Path(path).write_bytes(b"x")
    assert not list(tmp_path.iterdir())


def test_adapters_made_elsewhere_fold_too(tiny_llama: Path, tmp_path: Path) -> None:
    """An adapter without training.json is folded into the pristine base, and the facts say so."""
    adapter = make_adapter(tmp_path / "adapter", tiny_llama, targets=("v_proj",))
    _, done = exported(ExportSource(tiny_llama, adapter), "q8_0", tmp_path / "out")
    assert done.facts["merge_base"] == "pristine"


def test_what_the_reader_finds_is_told_where_it_writes(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads ahead hands its errors on, and ends with the export."""
    import threading

    from edgeft.weights.fold import Finite

    def broken(self: Any, *_: Any, **__: Any) -> Iterator[Any]:
        raise ModelError("the file is cut short")
        yield

    monkeypatch.setattr(Finite, "chunks", broken)
    with pytest.raises(ModelError, match="cut short"):
        exported(source, "q8_0", tmp_path)
    assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
