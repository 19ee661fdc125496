"""Hostile inputs -> exact message: tests/golden/weights/CASE.txt. Each is met by a whole merge, which leaves nothing.

After a change of a message: `EDGEFT_WRITE_GOLDEN=1 tools/test tests/weights/test_golden.py`, and read the difference.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource, hf
from tests.models_made import make_adapter, make_llama
from tests.weights.test_fourbit import packed

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
MODEL, ADAPTER = Path("base/model.safetensors"), Path("adapter/adapter_model.safetensors")
SHARD, INDEX = Path("base/model-00002-of-00003.safetensors"), Path("base/model.safetensors.index.json")
Q, NORM = "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
Spoil = Callable[[], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in one file, one in three shards, one in 4 bits, and an adapter of them."""
    folder = tmp_path_factory.mktemp("made")
    sizes: dict[str, Any] = {"hidden": 64, "intermediate": 96, "head_dim": 16, "layers": 1, "tied": False}
    make_llama(folder / "base", **sizes)
    make_llama(folder / "sharded", shard_size="70KB", **sizes)
    packed(folder / "base", folder / "packed")
    make_adapter(folder / "adapter", folder / "base", targets=("q_proj", "down_proj"))
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "somebody/base"}))
    return folder


def changed(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def put(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].reshape(-1)[1] = value

    return spoil


def header(path: Path, change: Callable[[dict[str, Any]], Any] | bytes) -> None:
    """Rewrite a file's header, the data as it is."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    if isinstance(change, bytes):
        raw = change
    else:
        table = json.loads(data[8 : 8 + length])
        change(table)
        raw = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


def outside(path: Path) -> None:
    path.rename("elsewhere.safetensors")
    path.symlink_to(Path("elsewhere.safetensors").resolve())


def configured(path: str, **changes: Any) -> None:
    Path(path).write_text(json.dumps({**json.loads(Path(path).read_text()), **changes}))


def state(text: bytes) -> None:
    name = f"{Q}.quant_state.bitsandbytes__nf4"
    changed(MODEL, lambda tensors: tensors.update({name: torch.tensor(list(text), dtype=torch.uint8)}))


CONFIG = "adapter/adapter_config.json"
A = f"base_model.model.{Q.removesuffix('.weight')}.lora_A.weight"
CASES: dict[str, tuple[str, Spoil]] = {
    "header-longer-than-the-file": ("base", lambda: MODEL.write_bytes(struct.pack("<Q", 1 << 62) + b"{}" * 20)),
    "header-empty": ("base", lambda: MODEL.write_bytes(b"")),
    "header-not-json": ("base", lambda: header(MODEL, b'{"a": ')),
    "header-not-a-table": ("base", lambda: header(MODEL, b"[1, 2]")),
    "header-absurd-shape": ("base", lambda: header(MODEL, lambda t: t[NORM].update(shape=[1 << 70]))),
    "header-negative-shape": ("base", lambda: header(MODEL, lambda t: t[NORM].update(shape=[-64]))),
    "header-shape-of-other-size": ("base", lambda: header(MODEL, lambda t: t[NORM].update(shape=[65]))),
    "header-overlap": ("base", lambda: header(MODEL, lambda t: t[NORM].update(data_offsets=[0, 128]))),
    "header-unknown-dtype": ("base", lambda: header(MODEL, lambda t: t[NORM].update(dtype="F4"))),
    "data-truncated": ("base", lambda: MODEL.write_bytes(MODEL.read_bytes()[:-100])),
    "data-behind-the-end": ("base", lambda: MODEL.write_bytes(MODEL.read_bytes() + b"x")),
    "lfs-pointer": ("base", lambda: MODEL.write_bytes(LFS)),
    "link-out-of-the-folder": ("base", lambda: outside(MODEL)),
    "pickle": ("base", lambda: MODEL.rename("base/pytorch_model.bin")),
    "no-weights": ("base", MODEL.unlink),
    "no-config": ("base", lambda: Path("base/config.json").unlink()),
    "nan": ("base", lambda: changed(MODEL, put(NORM, float("nan")))),
    "inf-under-the-adapter": ("base", lambda: changed(MODEL, put(Q, float("inf")))),
    "quantized-gptq": ("base", lambda: configured("base/config.json", quantization_config={"quant_method": "gptq"})),
    "shard-missing": ("sharded", SHARD.unlink),
    "shard-lfs-pointer": ("sharded", lambda: SHARD.write_bytes(LFS)),
    "shard-elsewhere": ("sharded", lambda: INDEX.write_text('{"weight_map": {"a": "../../etc/x.safetensors"}}')),
    "index-promises-too-much": ("sharded", lambda: configured(str(INDEX), weight_map={"a": SHARD.name})),
    "index-lost": ("sharded", INDEX.unlink),
    "state-broken-json": ("packed", lambda: state(b'{"quant_type": "nf4", ')),
    "state-not-a-table": ("packed", lambda: state(b"[]")),
    "state-of-another-size": (
        "packed",
        lambda: state(b'{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 64000]}'),
    ),
    "state-absurd-blocks": (
        "packed",
        lambda: state(b'{"quant_type": "nf4", "blocksize": 0, "dtype": "bfloat16", "shape": [64, 64]}'),
    ),
    "adapter-nan": ("base", lambda: changed(ADAPTER, put(A, float("nan")))),
    "adapter-inf": ("base", lambda: changed(ADAPTER, put(A.replace("_A", "_B"), float("-inf")))),
    "adapter-truncated": ("base", lambda: ADAPTER.write_bytes(ADAPTER.read_bytes()[:-100])),
    "adapter-lfs-pointer": ("base", lambda: ADAPTER.write_bytes(LFS)),
    "adapter-link-out-of-the-folder": ("base", lambda: outside(ADAPTER)),
    "adapter-pickle": ("base", lambda: ADAPTER.rename("adapter/adapter_model.bin")),
    "adapter-half-a-pair": ("base", lambda: changed(ADAPTER, lambda t: t.pop(A))),
    "adapter-left-over": ("base", lambda: changed(ADAPTER, lambda t: t.update({"x.y": torch.zeros(2)}))),
    "adapter-of-integers": ("base", lambda: changed(ADAPTER, lambda t: t.update({A: t[A].int()}))),
    "adapter-of-a-deeper-base": (
        "base",
        lambda: changed(ADAPTER, lambda t: t.update({n.replace("s.0.", "s.7."): t.pop(n) for n in list(t)})),
    ),
    "adapter-of-a-wider-base": ("base", lambda: changed(ADAPTER, lambda t: t.update({A: torch.zeros(8, 80)}))),
    "adapter-other-rank": ("base", lambda: configured(CONFIG, r=4)),
    "adapter-other-kind": ("base", lambda: configured(CONFIG, peft_type="IA3")),
    "adapter-infinite-scale": ("base", lambda: configured(CONFIG, lora_alpha=float("inf"))),
    "adapter-config-not-json": ("base", lambda: Path(CONFIG).write_text("{")),
}


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, spoil = CASES[case]
    shutil.copytree(made / kind, tmp_path / "base")
    shutil.copytree(made / "adapter", tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    spoil()
    source = ExportSource(Path("base"), Path("adapter"), name="m", base_ref="m")
    with pytest.raises(ModelError) as caught:
        hf.export(source, Path("out"), {"threads": 1})
    found = f"{caught.value}\n"
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("EDGEFT_WRITE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
    assert not list(Path("out").glob("*.safetensors*"))


def test_every_message_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
