"""The merged checkpoint: equal to peft's, laid out as the base, opened by Transformers, the same bytes again."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeft.errors import ModelError, StorageError
from edgeft.exporters import ExportSource, hf
from edgeft.files import walk_files
from edgeft.progress import Progress, silent
from tests.models_made import make_adapter, make_llama

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16}


def merged(source: ExportSource, folder: Path) -> Any:
    folder.mkdir()
    return hf.export(source, folder, {"threads": 1}, silent)


def peft_merged(base: Path, adapter: Path, folder: Path) -> dict[str, torch.Tensor]:
    """What peft's in-memory merge saves."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
    model.merge_and_unload().save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_equals_what_peft_saves(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    source = ExportSource(tiny_llama, tiny_adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")
    done = merged(source, tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    theirs = peft_merged(tiny_llama, tiny_adapter, tmp_path / "theirs")
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        assert torch.equal(ours[name], expected), name
    assert done.facts["tensors"] == len(ours)
    assert done.facts["merge_base"] == "pristine"


def test_transformers_opens_it_and_the_tokenizer(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged(ExportSource(tiny_llama, tiny_adapter), tmp_path / "ours")
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto", output_loading_info=True)
    assert model.dtype == torch.bfloat16
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    base = AutoTokenizer.from_pretrained(tiny_llama)
    messages = [{"role": "user", "content": "Turn the kitchen light on."}]
    assert tokenizer.apply_chat_template(messages) == base.apply_chat_template(messages)


def test_sharded_as_the_base(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", shard_size="60KB", tied=False, **SMALL)
    adapter = make_adapter(tmp_path / "adapter", base)
    merged(ExportSource(base, adapter), tmp_path / "ours")
    index = "model.safetensors.index.json"
    before, after = (json.loads((folder / index).read_text()) for folder in (base, tmp_path / "ours"))
    assert before == after
    for file in set(before["weight_map"].values()):
        ours, theirs = load_file(tmp_path / "ours" / file), load_file(base / file)
        assert {name: (t.shape, t.dtype) for name, t in ours.items()} == {
            name: (t.shape, t.dtype) for name, t in theirs.items()
        }
    from transformers import AutoModelForCausalLM

    _, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto", output_loading_info=True)
    assert not report["missing_keys"]


def test_without_an_adapter_the_weights_are_the_base(tiny_llama: Path, tmp_path: Path) -> None:
    merged(ExportSource(tiny_llama), tmp_path / "ours")
    ours, base = load_file(tmp_path / "ours" / "model.safetensors"), load_file(tiny_llama / "model.safetensors")
    assert all(torch.equal(ours[name], base[name]) for name in base)
    assert set(ours) == set(base)


def test_only_known_files_are_copied(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **SMALL)
    (base / "modeling_evil.py").write_text("raise SystemExit")
    (base / "training_args.bin").write_bytes(b"\x80\x04.")
    (base / "LICENSE").write_text("Apache-2.0")
    merged(ExportSource(base), tmp_path / "ours")
    names = {name for name, _ in walk_files(tmp_path / "ours")}
    assert names == {
        "LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_the_same_bytes_again(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    source = ExportSource(tiny_llama, tiny_adapter, name="tiny")
    for folder in ("a", "b"):
        merged(source, tmp_path / folder)
    first, second = ({name: path.read_bytes() for name, path in walk_files(tmp_path / folder)} for folder in ("a", "b"))
    assert first == second


def test_progress_counts_every_byte(tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    hf.export(ExportSource(tiny_llama), tmp_path, {"threads": 1}, seen.append)
    assert seen[-1].done == seen[-1].total == sum(t.nbytes for t in ExportSource(tiny_llama).weights().values())


def test_quantized_bases_are_refused(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **SMALL)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match=r"quantized \(gptq\)"):
        merged(ExportSource(base), tmp_path / "ours")


def test_a_disk_that_fills_up_leaves_no_weights(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fill(values: torch.Tensor) -> memoryview:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(values)

    original = hf.raw_bytes
    monkeypatch.setattr(hf, "raw_bytes", fill)
    with pytest.raises(StorageError, match="full"):
        merged(ExportSource(tiny_llama), tmp_path / "ours")
    assert not list((tmp_path / "ours").iterdir())


def test_the_card_is_one_that_hubs_read(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    source = ExportSource(tiny_llama, tiny_adapter, name="tiny", base_ref=str(tiny_llama))
    merged(source, tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    table = YAML(typ="safe").load(front)
    assert (table["library_name"], table["pipeline_tag"]) == ("transformers", "text-generation")
    assert "edgeft" in table["tags"]
    assert str(tiny_llama.parent) not in front + body
