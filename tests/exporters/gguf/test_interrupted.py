"""`edgeft export` that is killed half-way, or whose disk is full: nothing stands where the result belongs, and the same
command works afterwards and makes the same bytes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.cli.main import main
from tests.cli.test_golden import contents

# A process that runs edgeft's command line and is killed (really: SIGKILL) when it writes the fifth tensor.
KILLED = """
import os, signal, sys
from edgeft.cli.main import main
from edgeft.exporters.gguf import writer
whole, written = writer._write_tensor, 0
def counted(stream, *rest):
    global written
    written += 1
    if written == 5:
        while not os.path.getsize(stream.name):  # another thread writes
            stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(stream, *rest)
writer._write_tensor = counted
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base").symlink_to(tiny_llama)
    (tmp_path / "adapter").symlink_to(tiny_adapter)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(out: str) -> list[str]:
    return ["export", "--base", "base", "--adapter", "adapter", "--type", "gguf-q8_0", "--out", out]


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("base", "adapter"))


def test_killed_half_way_and_run_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = subprocess.run([sys.executable, "-c", KILLED, *arguments("out")], capture_output=True, timeout=60)
    assert dead.returncode == -signal.SIGKILL
    assert not (folder / "out").exists()
    assert any(path.stat().st_size for path in folder.glob(".out.*.partial/*") if path.is_file())
    assert main(arguments("out")) == 0
    assert left_over(folder) == ["out"]  # also what the dead one left is gone
    assert main(arguments("whole")) == 0
    again, whole = contents(folder / "out"), contents(folder / "whole")
    file = next(name for name in whole if name.endswith(".gguf"))
    assert again[file] == whole[file]


def test_what_a_running_export_writes_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another process that writes to the same place is not robbed of its folder."""
    other = folder / f".out.{os.getppid()}.partial"
    other.mkdir()
    assert main(arguments("out")) == 0
    assert other.is_dir()


def test_a_file_that_may_not_grow_further(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        code = main(arguments("out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "larger than" in capsys.readouterr().err
    assert left_over(folder) == []
    assert main(arguments("out")) == 0


@pytest.mark.slow
def test_a_disk_that_is_really_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file system of a megabyte, where one may be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        code = main(arguments("disk/out"))
        told = capsys.readouterr().err
        left = list(disk.iterdir())
        free = os.statvfs(disk)
        space = free.f_bavail * free.f_frsize
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 1
    assert "disk" in told
    assert left == []
    assert space > 500_000
