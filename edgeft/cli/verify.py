"""`edgeft verify`: compare an exported file, in its own runtime, with the model it was made of, without a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from edgeft.cli.options import Command, base_option, json_option, out_option


@click.command(cls=Command)
@click.argument("export", type=click.Path(path_type=Path))
@base_option
@click.option("--adapter", type=click.Path(path_type=Path), help="The adapter that was folded in, if there was one.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A dataset artifact or a JSONL file.")
@click.option("--limit", type=click.IntRange(min=1), default=64, show_default=True, help="Compare this many rows.")
@out_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    export: Path,
    base: str,
    adapter: Path | None,
    data: Path,
    limit: int,
    out: Path,
    as_json: bool,
) -> None:
    """Compare EXPORT (a .gguf file, an ONNX folder or an artifact) with the model it was made of: rendered
    conversations, token ids, stop tokens, next tokens, KL divergence. Exit code 4 when it is not the same model."""
    from edgeft.cli.faults import printable
    from edgeft.cli.folders import adapter_of, base_folder, build, dataset_of, export_of, tell
    from edgeft.errors import JudgementError
    from edgeft.files import read_json

    sources = {"base": base_folder(base)}
    with dataset_of(data) as rows:
        inputs = {"export": export_of(export), "adapter": adapter_of(adapter), "data": rows}
        params = {"rows": "test", "limit": limit}
        made = build("verify", params, out, inputs=inputs, sources=sources)
    if not as_json:
        for check in read_json(made.file("verdict.json"))["checks"]:
            status = click.style(f"{check['status']:<10}", fg="green" if check["passed"] else "red")
            click.echo(f"{status} {printable(check['gate'])}: {printable(check['detail'])}")
    tell(made, out, as_json=as_json)
    if not made.passed:
        raise JudgementError(str(made.facts.get("sentence", "the verification failed")), where=out)
