"""`edgeft chat ARTIFACT`: talk to anything that can answer, one question (`--prompt`) or a conversation."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from edgeft.cli.options import Command, json_option, print_json

if TYPE_CHECKING:
    from edgeft.runtimes.protocol import Completion, Message, Runtime

HELP = "/reset starts a new conversation, /exit or Ctrl-D ends, Ctrl-C stops an answer"


@click.command(cls=Command)
@click.argument("artifact")
@click.option("--base", metavar="MODEL", help="The base model of an adapter, when it does not say it itself.")
@click.option("--prompt", metavar="TEXT", help="Ask this and end; '-' reads it from stdin.")
@click.option("--system", metavar="TEXT", help="A system message before the conversation.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Of one answer.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of answers that are drawn.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    artifact: str,
    base: str | None,
    prompt: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    as_json: bool,
) -> None:
    """Talk to ARTIFACT: a base model (builtin:NAME, a folder, a hub id), an adapter, a merged model, a GGUF file, an
    ONNX folder, or a link to one in build/."""
    from edgeft.cli.quiet import quiet_libraries

    if as_json and prompt is None:
        raise click.UsageError("--json needs --prompt", ctx)
    if prompt == "-":
        prompt = sys.stdin.read()
    quiet_libraries(debug=ctx.find_root().obj.debug)
    from edgeft.runtimes import open_runtime

    opening: list[Message] = [{"role": "system", "content": system}] if system is not None else []
    with open_runtime(artifact, base=base) as runtime:
        talk = Talk(runtime, opening, max_tokens=max_tokens, temperature=temperature, seed=seed)
        if prompt is None:
            _converse(talk)
            return
        start = time.monotonic()
        answer = talk.say(prompt, echo=not as_json)
        if as_json:
            print_json(
                {
                    "runtime": runtime.name,
                    "prompt": prompt,
                    "answer": answer.text,
                    "stopped": answer.stopped,
                    "tokens": len(answer.ids),
                    "seconds": round(time.monotonic() - start, 3),
                }
            )


class Talk:
    """A conversation with one runtime: what was said, and how the next answer is made."""

    def __init__(
        self, runtime: Runtime, opening: list[Message], *, max_tokens: int, temperature: float, seed: int
    ) -> None:
        self.runtime = runtime
        self.opening = opening
        self.messages = list(opening)
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.seed = seed

    def say(self, text: str, *, echo: bool = True) -> Completion:
        """Ask, print the answer as it comes, and remember both. Raises `ModelError` when it does not fit."""
        from edgeft.cli.faults import printable

        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        ids = self.runtime.encode(self.runtime.render(messages, add_generation_prompt=True))

        def show(piece: str) -> None:
            click.echo(printable(piece), nl=False)

        answer = self.runtime.generate(
            [ids],
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            on_token=show if echo else None,
        )[0]
        if echo:
            click.echo("" if answer.stopped else f" … (cut after {self.max_tokens} tokens; --max-tokens)")
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def reset(self) -> None:
        self.messages = list(self.opening)


def _converse(talk: Talk) -> None:
    """Read a line, answer, until the end of input."""
    from edgeft.cli.faults import print_error
    from edgeft.errors import ModelError

    at_terminal = sys.stdin.isatty()
    if at_terminal:
        import readline  # noqa: F401 (line editing and history for `input`)

        click.echo(f"{talk.runtime.name}, context {talk.runtime.context_length} tokens. {HELP}")
    while True:
        try:
            line = input("> " if at_terminal else "")
        except EOFError:
            break
        if not line.strip():
            continue
        if line.strip() in ("/exit", "/quit"):
            break
        if line.strip() == "/reset":
            talk.reset()
            continue
        try:
            talk.say(line)
        except ModelError as error:
            print_error(f"{error.what}\n  /reset starts a new conversation")
        except KeyboardInterrupt:
            click.echo(" … (stopped)")
    if at_terminal:
        click.echo()
