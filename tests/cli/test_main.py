"""The front door: help without loading, errors to exit codes and one to three lines, nothing else on stderr."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgeft import __version__
from edgeft.cli.faults import printable
from edgeft.cli.main import COMMANDS, LazyGroup, main
from edgeft.cli.options import Command
from edgeft.errors import (
    DataError,
    Errors,
    Interrupted,
    JudgementError,
    Location,
    MissingError,
    RecipeError,
    StorageError,
)
from edgeft.registry import Row

_raised: BaseException | None = None


@click.command(cls=Command)
def raising() -> None:
    """Raise what the test put there."""
    if _raised is not None:
        raise _raised


@pytest.fixture
def raise_(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A command `edgeft raising` that raises an error; returns main's exit code."""
    monkeypatch.setitem(COMMANDS, "raising", Row(f"{__name__}:raising", "raises"))  # type: ignore[attr-defined]

    def call(error: BaseException, *options: str) -> int:
        monkeypatch.setattr(sys.modules[__name__], "_raised", error)
        return main([*options, "raising"])

    return call


CASES = [
    (RecipeError("unknown key 'learnig_rate'", where=Location("a.yaml", 3, 5), do="did you mean 'learning_rate'?"), 2,
     "a.yaml:3:5: unknown key 'learnig_rate'\n  did you mean 'learning_rate'?\n"),
    (MissingError("this needs gguf", do="pip install 'edgeft[gguf]'"), 3,
     "edgeft: this needs gguf\n  pip install 'edgeft[gguf]'\n"),
    (JudgementError("the gate failed"), 4, "edgeft: the gate failed\n"),
    (StorageError("the disk is full", where="/data"), 1, "/data: the disk is full\n"),
    (Errors([DataError("bad", where=Location("r.jsonl", 2)), DataError("worse", where=Location("r.jsonl", 9))]), 2,
     "r.jsonl:2: bad\nr.jsonl:9: worse\n"),
    (KeyboardInterrupt(), 130, "\nedgeft: interrupted\n  run the same command again to go on from here\n"),
    (Interrupted(), 130, "edgeft: interrupted\n  run the same command again to go on from here\n"),
    (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1,
     "/data/x: the disk is full\n  free some space and run again; finished artifacts are intact\n"),
    (ZeroDivisionError("division by zero\nsecond line"), 1,
     "edgeft: unexpected ZeroDivisionError: division by zero\n"
     "  this is a bug in edgeft or in a library; run again with --debug to see where\n"),
    (MemoryError(), 1,
     "edgeft: out of memory\n  edgeft plan shows what each target needs; a smaller batch needs less\n"),
    (click.UsageError("no such thing"), 2, "edgeft: no such thing\n  try: edgeft raising --help\n"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "told"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_becomes_a_code_and_a_few_lines(raise_, capsys, error, code, told) -> None:  # type: ignore[no-untyped-def]
    assert raise_(error) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", told)


def test_a_traceback_only_with_debug(raise_, capsys) -> None:  # type: ignore[no-untyped-def]
    assert raise_(ZeroDivisionError("x"), "--debug") == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert main(["raising", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_cannot_steer_the_terminal(raise_, capsys) -> None:  # type: ignore[no-untyped-def]
    raise_(DataError("row \x1b[2J\x07 says\r\u202e hi"))
    assert capsys.readouterr().err == "edgeft: row \\x1b[2J\\x07 says\\x0d\\u202e hi\n"


@pytest.mark.parametrize("text", ["plain", "Grüße, 你好 🙂", "two\nlines\tand a tab"])
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text


def test_help_lists_every_command_and_loads_none(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Row, "load", lambda self: pytest.fail("a command was loaded"))
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, row in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(row.help)}$", shown, re.MULTILINE), name
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "raising"])
def test_every_command_loads_and_its_help_fits(name: str, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: edgeft {name} ")
    assert max(map(len, shown.splitlines())) <= 80


def test_an_unknown_command_gets_a_suggestion(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["rnu"]) == 2
    assert capsys.readouterr().err == "edgeft: there is no command 'rnu'; did you mean 'run'?\n  try: edgeft --help\n"


def test_version(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeft {__version__}\n"


def test_nothing_given_shows_help_and_is_a_usage_error(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_who_stops_reading_ends_us_quietly() -> None:
    program = "import sys\nfrom edgeft.cli.main import main\nsys.exit(main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_the_shells(shell: str, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["completion", shell]) == 0
    assert f"_EDGEFT_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [("edgeft r", {"run", "report", "runs"}), ("edgeft completion z", {"zsh"}), ("edgeft runs g", {"gc"}),
     ("edgeft --vers", {"--version"})],
)  # fmt: skip
def test_completion_completes(words: str, expected: set[str]) -> None:
    script = Path(sys.executable).with_name("edgeft")
    environment = {
        **os.environ,
        "_EDGEFT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60)
    assert {line.split(",", 1)[1] for line in done.stdout.splitlines()} == expected


def test_a_lazy_group_lists_in_the_tables_order() -> None:
    group = LazyGroup({"b": Row("x", "second"), "a": Row("y", "first")}, name="g")
    assert group.list_commands(click.Context(group)) == ["b", "a"]
