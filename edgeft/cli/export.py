"""`edgeft export`: write one GGUF file or ONNX folder from a base model and an adapter, without a recipe."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgeft.cli.options import Command, base_option, json_option, merge_base_option, out_option


def _complete_types(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in export_names() if name.startswith(incomplete)]


def export_names() -> tuple[str, ...]:
    """FORMAT-TYPE of every export that a recipe may name."""
    from edgeft.recipe.names import EXPORTS

    return tuple(EXPORTS)


def _known(ctx: click.Context, _: click.Parameter, value: str) -> str:
    from edgeft.registry import suggestion

    if value not in export_names():
        raise click.UsageError(f"unknown export {value!r}; {suggestion(value, export_names())}", ctx)
    return value


@click.command(cls=Command)
@base_option
@click.option("--adapter", type=click.Path(path_type=Path), help="An adapter's folder; without it the base as it is.")
@click.option(
    "--type",
    "name",
    metavar="FORMAT-TYPE",
    required=True,
    callback=_known,
    shell_complete=_complete_types,
    help="gguf-f16, gguf-q8_0, gguf-q4_k_m, lora-f16, onnx-fp32, onnx-int4.",
)
@click.option(
    "--with-base", metavar="TYPE", help="Of lora: write its base beside it, as GGUF of this type (f16, q8_0)."
)
@merge_base_option
@out_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    base: str,
    adapter: Path | None,
    name: str,
    with_base: str | None,
    merge_base: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write one file to ship from a base model and an adapter, without a merged checkpoint in between."""
    from edgeft.cli.folders import adapter_of, base_folder, build, tell

    format_, _, type_ = name.partition("-")
    if with_base is not None and format_ != "lora":
        raise click.UsageError(f"--with-base is for lora, not for {name}", ctx)
    options = {} if with_base is None else {"with_base": with_base}
    params = {"format": format_, "type": type_, "merge_base": merge_base, "options": options}
    inputs = {"adapter": adapter_of(adapter)}
    made = build("export", params, out, inputs=inputs, sources={"base": base_folder(base)})
    tell(made, out, as_json=as_json)
