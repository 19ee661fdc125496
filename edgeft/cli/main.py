"""`edgeft`: the console script. Knows each command by name and one line of help; loads it only when it is used.

Errors become exit codes here and nowhere else (see `edgeft.errors`); a traceback is printed only with `--debug`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgeft import __version__
from edgeft.registry import Row, Table, suggestion

COMMANDS: Table = {
    "init": Row("edgeft.cli.init:command", "Write a starter recipe and sample data here."),
    "check": Row("edgeft.cli.check:command", "Find every error of a recipe and its data at once."),
    "plan": Row("edgeft.cli.plan:command", "Say what would be built and why; time, memory, sizes."),
    "run": Row("edgeft.cli.run:command", "Build a recipe's targets, like make."),
    "report": Row("edgeft.cli.report:command", "Write a recipe's HTML report again, and open it."),
    "data": Row("edgeft.cli.data:command", "See the data as the model will see it."),
    "lr-find": Row("edgeft.cli.lr_find:command", "Find a learning rate: a range test of a recipe."),
    "train": Row("edgeft.cli.train:command", "Tune a base model on a dataset."),
    "merge": Row("edgeft.cli.merge:command", "Fold an adapter into its base model."),
    "eval": Row("edgeft.cli.evaluate:command", "Ask any artifact a suite of questions and score it."),
    "export": Row("edgeft.cli.export:command", "Write a GGUF or ONNX file from base and adapter."),
    "verify": Row("edgeft.cli.verify:command", "Compare an exported file with the model it was made of."),
    "chat": Row("edgeft.cli.chat:command", "Talk to any artifact: base, adapter, GGUF, ONNX."),
    "runs": Row("edgeft.cli.runs:command", "List, show, compare and clean up what was built."),
    "doctor": Row("edgeft.cli.doctor:command", "This machine: what it can train, what is missing."),
    "completion": Row("edgeft.cli.completion:command", "Print the shell's completion script."),
}


@dataclass
class Session:
    """What one start of `edgeft` shares among its commands (click's `ctx.obj`)."""

    debug: bool = False


class LazyGroup(click.Group):
    """A group whose commands are rows of a table: listed without being imported."""

    def __init__(self, table: Table, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        loaded = self.table[cmd_name].load()
        assert isinstance(loaded, click.Command)
        loaded.name = cmd_name
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.table and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {args[0]!r}; {suggestion(args[0], self.table)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        named = [CompletionItem(name, help=row.help) for name, row in self.table.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).debug = value


cli = LazyGroup(
    COMMANDS,
    name="edgeft",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    help="From a dataset to a small model on a device, proven to be the model that was trained.\n\n"
    "Start with: edgeft init, then edgeft run.",
    params=[
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks."),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, _, value: _print_version(ctx) if value else None,
            help="Show the version and exit.",
        ),
    ],
    no_args_is_help=True,
)


def _print_version(ctx: click.Context) -> None:
    click.echo(f"edgeft {__version__}")
    ctx.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code."""
    session = Session()
    try:
        code = cli.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="edgeft",
            standalone_mode=False,
            obj=session,
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        _discard_output()
        return 1
    except BaseException as error:
        from edgeft.cli.faults import tell

        return tell(error, debug=session.debug)


def _discard_output() -> None:
    """Who read our output has gone: send the rest nowhere, so that the interpreter's last flush stays quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
