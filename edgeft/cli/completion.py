"""`edgeft completion bash|zsh|fish`: the script that a shell reads to complete commands, options and targets."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgeft.cli.options import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script; write it to the file where your shell looks for it, such as

    \b
    bash  ~/.local/share/bash-completion/completions/edgeft
    zsh   ~/.zfunc/_edgeft (with ~/.zfunc in fpath)
    fish  ~/.config/fish/completions/edgeft.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "edgeft", "_EDGEFT_COMPLETE").source())
