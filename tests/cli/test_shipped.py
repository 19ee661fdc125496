"""The commands that the end of a run prints work as they are printed."""

from __future__ import annotations

import json
import shlex
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
    assert '  echo "FROM $PWD/$GGUF" > Modelfile' in lines


def shipped(tmp_path: Path, kind: str, *names: str, **facts: str) -> list[str]:
    made = Artifact(
        tmp_path, kind, "export", "f", "d", files={n: {"sha256": "", "size": 1} for n in names}, facts=facts
    )
    return list(files_and_commands({"export.x": made}, {"export.x": Path("build/my recipe/x")}, "my recipe"))


def test_the_modelfile_is_used_when_there_is_one(tmp_path: Path) -> None:
    lines = shipped(tmp_path, "gguf", "a.gguf", "Modelfile", "README.md")
    assert "  ollama create my-recipe -f 'build/my recipe/x/Modelfile' && ollama run my-recipe" in lines
    assert not any("FROM" in line for line in lines)


def test_an_adapter_and_its_base(tmp_path: Path) -> None:
    both = shipped(tmp_path, "lora", "b.gguf", "l.gguf", "Modelfile", file="l.gguf", base_file="b.gguf")
    assert "  BASE='build/my recipe/x/b.gguf'" in both
    assert "  LORA='build/my recipe/x/l.gguf'" in both
    assert "  edgeft chat 'build/my recipe/x'" in both
    alone = shipped(tmp_path, "lora", "l.gguf", file="l.gguf")
    assert '  edgeft chat "$LORA" --base "$BASE"' in alone


def test_the_system_message_of_training_is_in_every_example(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"system": "Answer in 'one' word."}))
    trained = Artifact(tmp_path, "adapter", "train", "f", "d", files={"training.json": {"sha256": "", "size": 1}})
    kinds = {"gguf": "a.gguf", "lora": "l.gguf", "onnx": "genai_config.json", "model": "config.json"}
    made = {
        kind: Artifact(
            tmp_path, kind, "export", "f", "d", files={file: {"sha256": "", "size": 1}}, facts={"file": file}
        )
        for kind, file in kinds.items()
    }
    lines = list(files_and_commands({"train": trained, **made}, {kind: Path(kind) for kind in made}, "r"))
    quoted = shlex.quote("Answer in 'one' word.")
    assert f'  llama-cli -m "$GGUF" -sys {quoted}' in lines
    assert f'  llama-cli -m "$BASE" --lora "$LORA" -sys {quoted}' in lines
    assert f'  edgeft chat "$LORA" --base "$BASE" --system {quoted}' in lines
    assert f"  edgeft chat model --system {quoted}" in lines
    told = """[{"role": "system", "content": "Answer in 'one' word."}, {"role": "user", "content": "Hello"}]"""
    assert sum(told in line for line in lines) == 3
    (tmp_path / "training.json").write_text(json.dumps({"system": None}))
    assert not any(
        "system" in line or "-sys" in line
        for line in files_and_commands({"train": trained, **made}, {kind: Path(kind) for kind in made}, "r")
    )


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
