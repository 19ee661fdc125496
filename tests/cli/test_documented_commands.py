"""Every `edgeft …` command in README.md and docs/ parses: commands, arguments and options are those that exist."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeft.cli.main import Session, cli

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?:sh|bash|console|text|)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(edgeft [^`\n]+)`")

COMPLETE = ("doctor", "init", "list", "show", "gc")  # whole commands; other names without arguments are only mentioned


def commands(text: str) -> Iterator[str]:
    """The command lines of a page: in code blocks (comments and prompts cut off) and in inline code."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("edgeft "):
                yield line
    yield from (line for line in INLINE.findall(text) if len(line.split()) > 2 or line.endswith(COMPLETE))


def parse(line: str) -> None:
    """Parse one command line without running it; raises `click.UsageError` where it is wrong."""
    words = shlex.split(line.split(" | ")[0].split(" > ")[0].split(" && ")[0], comments=True)[1:]
    if any(word in ("…", "...") for word in words):
        return
    context = cli.make_context("edgeft", list(words), obj=Session(), resilient_parsing=False)
    command: click.Command = cli
    while isinstance(command, click.Group):
        arguments = [*context._protected_args, *context.args]
        if not arguments:
            return
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        context = found.make_context(found.name, arguments, parent=context)
        command = found


ALL = [(page.name, line) for page in PAGES if page.is_file() for line in commands(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "line"), ALL)
def test_the_command_parses(page: str, line: str) -> None:
    with contextlib.suppress(click.exceptions.Exit):  # --help, --version
        parse(line)


def test_there_are_commands_to_parse() -> None:
    assert len(ALL) >= 5


@pytest.mark.parametrize(
    "line",
    ["edgeft rnu x.yaml", "edgeft run x.yaml --no-such-option", "edgeft runs lst", "edgeft merge --base X --out Y",
     "edgeft export --base X --type gguf-q9 --out Y"],
)  # fmt: skip
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


def test_commands_are_found_in_blocks_and_inline() -> None:
    page = (
        "Say `edgeft doctor`:\n```sh\n$ edgeft run a.yaml \\\n    -n   # comment\nmake\n```\n```yaml\nedgeft x\n```\n"
    )
    assert list(commands(page)) == ["edgeft run a.yaml      -n   # comment", "edgeft doctor"]
