"""`edgeft merge`: fold an adapter into its base model and write a safetensors checkpoint, without a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from edgeft.cli.options import Command, base_option, json_option, merge_base_option, out_option


@click.command(cls=Command)
@base_option
@click.option("--adapter", type=click.Path(path_type=Path), required=True, help="An adapter's folder.")
@merge_base_option
@out_option
@json_option
def command(base: str, adapter: Path, merge_base: str, out: Path, as_json: bool) -> None:
    """Fold an adapter into its base model, tensor by tensor, and write the checkpoint to --out."""
    from edgeft.cli.folders import adapter_of, base_folder, build, tell

    inputs = {"adapter": adapter_of(adapter)}
    sources = {"base": base_folder(base)}
    made = build("merge", {"merge_base": merge_base}, out, inputs=inputs, sources=sources)
    tell(made, out, as_json=as_json)
