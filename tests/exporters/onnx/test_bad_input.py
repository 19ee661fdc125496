"""What goes wrong on the way to an ONNX folder: one clear error each (texts in tests/golden/onnx), nothing left."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import EdgeftError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx import slabs
from edgeft.exporters.onnx.decoder import export
from tests.models_made import make_adapter, make_llama

GOLDEN = Path(__file__).parents[2] / "golden" / "onnx"


def check(name: str, tmp_path: Path, work: Callable[[], Any]) -> None:
    with pytest.raises(EdgeftError) as caught:
        work()
    error = caught.value
    told = [error.what, f"where: {error.where}" if error.where else "", f"do: {error.do}" if error.do else ""]
    text = "\n".join(line for line in told if line).replace(str(tmp_path), "TMP") + "\n"
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def sharded(folder: Path) -> Path:
    return make_llama(folder, shard_size="1MB")


def test_a_missing_shard(tmp_path: Path) -> None:
    base = sharded(tmp_path / "base")
    sorted(base.glob("*.safetensors"))[1].unlink()
    check("missing_shard", tmp_path, lambda: export(ExportSource(base), "int4", tmp_path / "out", {}))
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_damaged_shard(tmp_path: Path) -> None:
    base = sharded(tmp_path / "base")
    path = sorted(base.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1000])
    check("damaged_shard", tmp_path, lambda: export(ExportSource(base), "int4", tmp_path / "out", {}))


def test_a_weight_that_is_not_a_number(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", dtype="float32")
    path = base / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"
    path.write_bytes(data)
    check("not_a_number", tmp_path, lambda: export(ExportSource(base), "int4", tmp_path / "out", {}))


def test_an_adapter_of_another_base(tiny_llama: Path, tmp_path: Path) -> None:
    other = make_llama(tmp_path / "other", hidden=128)
    adapter = make_adapter(tmp_path / "adapter", other)
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "some/other"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    check("another_base", tmp_path, lambda: export(ExportSource(tiny_llama, adapter), "int4", tmp_path / "out", {}))


def test_a_full_disk(tiny_llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(slabs.FloatSlabs, "write", full)
    check("full_disk", tmp_path, lambda: export(ExportSource(tiny_llama), "fp32", tmp_path / "out", {}))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_killed_half_way_it_starts_anew(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """What the killed one left in its folder is gone, and the files are those of an undisturbed one."""
    work = (
        "import sys, time; from pathlib import Path; from edgeft.exporters import ExportSource\n"
        "from edgeft.exporters.onnx import decoder, slabs\n"
        "write = slabs.FloatSlabs.write\n"
        "def slow(*a):\n    print('writing', file=sys.__stdout__, flush=True); time.sleep(0.5); write(*a)\n"
        "slabs.FloatSlabs.write = slow\n"
        "base, adapter, out = map(Path, sys.argv[1:])\n"
        "decoder.export(ExportSource(base, adapter), 'int4', out, {})\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", work, str(tiny_llama), str(tiny_adapter), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / ".scratch").exists()
    export(ExportSource(tiny_llama, tiny_adapter), "int4", out, {})
    export(ExportSource(tiny_llama, tiny_adapter), "int4", tmp_path / "calm", {})
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "calm").iterdir())
    assert (out / "model.onnx.data").read_bytes() == (tmp_path / "calm" / "model.onnx.data").read_bytes()


@pytest.mark.parametrize(
    ("name", "type_name", "options"),
    [
        ("provider_of_type", "int8", {"provider": "dml"}),
        ("bf16_on_cpu", "bf16", {}),
        ("tied_default", "int4", {"algorithm": "default"}),
        ("unknown_option", "int4", {"bits": 3}),
    ],
)
def test_combinations(name: str, type_name: str, options: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    check(name, tmp_path, lambda: export(ExportSource(base), type_name, tmp_path / "out", options))
    assert not (tmp_path / "out").exists()
