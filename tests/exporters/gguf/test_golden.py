"""Hostile inputs -> what `edgeft export` says: tests/golden/gguf/CASE.txt (exit code, then stderr). Nothing stays.

After a change of a message: `EDGEFT_WRITE_GOLDEN=1 tools/test tests/exporters/gguf/test_golden.py`, and read the
difference.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgeft.cli.main import main
from tests.cli.test_golden import contents
from tests.exporters.gguf.hostile import ASKED, FILES, VOCABULARIES, bases

GOLDEN = Path(__file__).parents[2] / "golden" / "gguf"
CASES = {**VOCABULARIES, **FILES}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    bases(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_message(
    case: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, spoil = CASES[case]
    shutil.copytree(made / kind, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    spoil()
    before = contents(tmp_path)
    capsys.readouterr()
    asked = ASKED.get(case, ["--type", "gguf-q8_0"])
    code = main(["export", "--base", "base", "--adapter", "adapter", "--out", "out", *asked])
    found = f"exit code {code}\n{capsys.readouterr().err.replace(str(tmp_path), 'DIR')}"
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("EDGEFT_WRITE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
    assert code
    assert contents(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.name not in ("base", *before, "adapter", "elsewhere")]


def test_every_message_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
