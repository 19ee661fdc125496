"""What goes wrong outside recipe and data -> exact message and exit code: tests/golden/cli/CASE.txt, a function a case.

The first line of a file is the exit code, the rest is what stands on stderr, with the test's folder written as DIR.
Every case also shows that nothing half-written is left and that what was there before is intact.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Outcome
from edgeft.cli.main import main
from edgeft.files import digest_file
from edgeft.pipeline.stage import Inputs, Work
from tests.cli import stages_faked
from tests.models_made import make_adapter, make_llama

GOLDEN = Path(__file__).parents[1] / "golden" / "cli"
Case = Callable[[Path, pytest.MonkeyPatch], list[str]]


def full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stage writes to a device that is really full: the kernel's own error."""

    def train(params: Any, inputs: Inputs, work: Work) -> Outcome:
        (work.folder / "adapter.bin").symlink_to("/dev/full")
        with (work.folder / "adapter.bin").open("wb", buffering=0) as stream:
            stream.write(bytes(4096))
        return Outcome("adapter")

    stages_faked.install(monkeypatch, train=train)
    stages_faked.write_recipe(folder)
    return ["run", "r.yaml"]


def read_only_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recipe's folder takes no new folder (tests run as root, whom a mode does not stop)."""
    stages_faked.install(monkeypatch)
    stages_faked.write_recipe(folder)
    real = Path.mkdir

    def refused(self: Path, *arguments: Any, **keywords: Any) -> None:
        if ".edgeft" in self.parts or "build" in self.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "mkdir", refused)
    return ["run", "r.yaml"]


def adapter_of_another_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    base = make_llama(folder / "base")
    make_adapter(folder / "adapter", base)
    training = {"base": {"ref": "builtin:sprout", "digest": "0" * 64}, "quantization": None}
    (folder / "adapter" / "training.json").write_text(json.dumps(training))
    return ["merge", "--base", "base", "--adapter", "adapter", "--out", "out"]


def adapter_of_another_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An adapter of another tool, which does not say what it was trained on."""
    make_adapter(folder / "adapter", make_llama(folder / "other", hidden=128, heads=2))
    make_llama(folder / "base")
    return ["merge", "--base", "base", "--adapter", "adapter", "--out", "out"]


def pickle_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    base = make_llama(folder / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    return ["export", "--base", "base", "--type", "gguf-f16", "--out", "out"]


def truncated_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    base = make_llama(folder / "base")
    weights = base / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return ["export", "--base", "base", "--type", "gguf-f16", "--out", "out"]


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        full_disk,
        read_only_folder,
        adapter_of_another_base,
        adapter_of_another_shape,
        pickle_checkpoint,
        truncated_checkpoint,
    )
}


def contents(folder: Path) -> dict[str, str]:
    """Files and their digests; what edgeft keeps for itself (locks, records, caches) is left out."""
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and ".edgeft" not in path.relative_to(folder).parts[:1]
    }


@pytest.mark.parametrize("case", CASES)
def test_message(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = CASES[case](tmp_path, monkeypatch)
    before = contents(tmp_path)
    capsys.readouterr()
    code = main(arguments)
    told = f"exit code {code}\n{capsys.readouterr().err.replace(str(tmp_path), 'DIR')}"
    assert told == (GOLDEN / f"{case}.txt").read_text()
    assert contents(tmp_path) == before
    whole = [path.parent for path in tmp_path.glob(".edgeft/store/*/artifact.json")]
    assert not [path for path in tmp_path.glob(".edgeft/store/train-*") if path in whole]


def test_every_case_has_its_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
