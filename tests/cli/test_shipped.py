"""The commands that the end of a run prints work as they are printed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeft import artifact
from edgeft.artifact import Artifact
from edgeft.cli.main import main
from edgeft.cli.shipped import files_and_commands


def lines_below(lines: list[str], heading: str) -> str:
    """The indented lines below a heading, as a program."""

    def taken() -> Iterator[str]:
        found = False
        for line in lines:
            if line.startswith(heading):
                found = True
            elif found and not line.startswith("  "):
                return
            elif found:
                yield line

    return textwrap.dedent("\n".join(taken()))


def test_nothing_shipped_nothing_said() -> None:
    verdict = Artifact(Path("/x"), "verdict", "gate", "f", "d")
    assert list(files_and_commands({"gate": verdict}, {"gate": Path("build/r/gate")}, "r")) == []


def test_paths_with_spaces_stay_one_word(tmp_path: Path) -> None:
    made = Artifact(tmp_path, "gguf", "export", "f", "d", files={"a b.gguf": {"sha256": "", "size": 1}})
    lines = list(files_and_commands({"export.x": made}, {"export.x": Path("build/my recipe/export.x")}, "my recipe"))
    assert "  GGUF='build/my recipe/export.x/a b.gguf'" in lines
    assert "  edgeft chat 'build/my recipe/export.x'" in lines
    assert "  ollama create my-recipe -f Modelfile && ollama run my-recipe" in lines


@pytest.mark.slow
@pytest.mark.parametrize(("name", "heading"), [("gguf-q8_0", "Python (pip install llama-cpp-python)"),
                                               ("onnx-int4", "ONNX Runtime"), ("merge", "Transformers")])  # fmt: skip
def test_the_python_lines_answer(
    name: str, heading: str, tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--base", str(tiny_llama), "--adapter", str(tiny_adapter), "--out", "out"]
    assert main(["merge", *base] if name == "merge" else ["export", *base, "--type", name]) == 0
    lines = list(files_and_commands({"x": artifact.load(Path("out"))}, {"x": Path("out")}, "r"))
    program = lines_below(lines, heading)
    assert "print(" in program
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
