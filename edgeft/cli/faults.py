"""Every way a command can end badly: one to three lines on stderr, and the exit code. Called by `main`."""

from __future__ import annotations

import sys
import traceback

import click

from edgeft.errors import EdgeftError, Errors, Interrupted, storage_error


def tell(error: BaseException, *, debug: bool) -> int:
    """Print an error that ended a command and return the exit code that belongs to it."""
    if isinstance(error, SystemExit):  # a library's own: nothing of ours exits
        return error.code if isinstance(error.code, int) else 1
    if debug and not isinstance(error, click.exceptions.Exit | click.Abort):
        for one in error.errors if isinstance(error, Errors) else (error,):
            traceback.print_exception(one)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error)
    return _fault(_as_ours(error), debug=debug)


def _as_ours(error: BaseException) -> EdgeftError:
    """Foreign errors that have a clear form of ours."""
    if isinstance(error, EdgeftError):
        return error
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted()
    if isinstance(error, OSError) and (mapped := storage_error(error)) is not None:
        return mapped
    if isinstance(error, MemoryError):
        return EdgeftError("out of memory", do="edgeft plan shows what each target needs; a smaller batch needs less")
    lines = str(error).strip().splitlines()
    return EdgeftError(
        f"unexpected {type(error).__name__}: {lines[0] if lines else 'no message'}",
        do="this is a bug in edgeft or in a library; run again with --debug to see where",
    )


def _fault(error: EdgeftError, *, debug: bool) -> int:
    for fault in error.errors if isinstance(error, Errors) else (error,):
        first, *rest = printable(str(fault)).split("\n")
        first = first if fault.where else f"edgeft: {first}"
        click.secho(first, err=True, fg="red" if error.exit_code != Interrupted.exit_code else None)
        for line in rest:
            click.echo(f"  {line}", err=True)
    return error.exit_code


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    click.secho(f"edgeft: {printable(error.format_message())}", err=True, fg="red")
    if context is not None:
        click.echo(f"  try: {context.command_path} --help", err=True)
    return 2


def printable(text: str) -> str:
    """Text with control characters (but newline and tab) made visible: nothing from a file or a model steers the
    terminal. Carriage returns, escape sequences and Unicode's C1 and bidirectional controls included."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in "\n\t" or not _steers(character) else _visible(character) for character in text
    )


def _steers(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or code in _BIDIRECTIONAL or 0xD800 <= code < 0xE000


_BIDIRECTIONAL = frozenset((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def print_error(text: str) -> None:
    """A line on stderr, for commands that go on after it."""
    sys.stdout.flush()
    click.echo(printable(text), err=True)
