"""`edgeft export`: write one GGUF file or ONNX folder from a base model and an adapter, without a recipe; or say how
large each GGUF type would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgeft.cli.options import Command, base_option, json_option, merge_base_option, print_json

_ONNX = {"backend", "builder", "device", "provider", "adapter_as", "layout", "check"}


def _complete_types(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in export_names() if name.startswith(incomplete)]


def export_names() -> tuple[str, ...]:
    """FORMAT-TYPE of every export that a recipe may name."""
    from edgeft.recipe.names import EXPORTS

    return tuple(EXPORTS)


def _known(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    from edgeft.registry import suggestion

    if value is not None and value not in export_names():
        raise click.UsageError(f"unknown export {value!r}; {suggestion(value, export_names())}", ctx)
    return value


def _pairs(ctx: click.Context, _: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """PATTERN=TYPE; the type has no "=", the pattern may."""
    for value in values:
        if not all(value.rpartition("=")):
            raise click.UsageError(f"--tensor-type wants PATTERN=TYPE, as 'ffn_down=q6_k', got {value!r}", ctx)
    return [(pattern, name.lower()) for pattern, _, name in (value.rpartition("=") for value in values)]


@click.command(cls=Command)
@base_option
@click.option("--adapter", type=click.Path(path_type=Path), help="An adapter's folder; without it the base as it is.")
@click.option(
    "--type",
    "name",
    metavar="FORMAT-TYPE",
    callback=_known,
    shell_complete=_complete_types,
    help="gguf-f16, gguf-q8_0, gguf-q4_k_m, lora-f16, onnx-fp32, onnx-fp16, onnx-int8, onnx-int4.",
)
@click.option(
    "--with-base", metavar="TYPE", help="Of lora: write its base beside it, as GGUF of this type (f16, q8_0)."
)
@merge_base_option
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    help="GGUF: quantize by this importance matrix (of edgeft or of llama.cpp's imatrix tool).",
)
@click.option(
    "--tensor-type",
    "tensor_types",
    metavar="PATTERN=TYPE",
    multiple=True,
    callback=_pairs,
    help="GGUF: the type of the tensors in whose name PATTERN is found. May be repeated; the first that is found wins.",
)
@click.option("--token-embedding-type", metavar="TYPE", help="GGUF: the type of the token embeddings.")
@click.option("--output-tensor-type", metavar="TYPE", help="GGUF: the type of the output layer.")
@click.option("--max-shard-size", metavar="SIZE", help="GGUF: split a larger file into shards, as 2GB.")
@click.option(
    "--quantizer",
    type=click.Choice(["auto", "fast", "ggml"]),
    help="GGUF: who quantizes; the bytes are the same. Default auto: the fast kernels where they work, else ggml.",
)
@click.option(
    "--backend",
    type=click.Choice(["genai", "optimum"]),
    help="ONNX: whose graph: onnxruntime-genai's (default), or that of Hugging Face's optimum.",
)
@click.option(
    "--builder",
    type=click.Choice(["streamed", "stock", "auto"]),
    help="ONNX: streamed (default) needs the memory of the largest weight; stock merges to disk and holds the model.",
)
@click.option("--device", type=click.Choice(["cpu", "mobile", "web"]), help="ONNX: what the file is for; default cpu.")
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda", "dml", "webgpu"]),
    help="ONNX: the execution provider that the graph is made for.",
)
@click.option(
    "--adapter-as",
    type=click.Choice(["merged", "apart", "only"]),
    help="ONNX: merged (default) into the weights; apart, a file beside the base's graph; only that file.",
)
@click.option(
    "--layout",
    type=click.Choice(["genai", "transformers.js"]),
    help="ONNX: lay the files out as transformers.js looks for them too.",
)
@click.option(
    "--check/--no-check",
    "check",
    default=None,
    help="ONNX: compare the graph with the model on a built-in text before it is accepted (default).",
)
@click.option("--sizes", is_flag=True, help="Build nothing: say how large the file of each GGUF type would be.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write; it must not be there yet.")
@json_option
def command(
    base: str,
    adapter: Path | None,
    name: str | None,
    with_base: str | None,
    merge_base: str,
    imatrix: Path | None,
    sizes: bool,
    out: Path | None,
    quantizer: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write one file to ship from a base model and an adapter, without a merged checkpoint in between.

    With --sizes: the exact size of every GGUF type instead, without reading weights.
    """
    from edgeft.cli.folders import adapter_of, base_folder, build, tell

    options = {key: value for key, value in options.items() if value or value is False}
    inputs = {"adapter": adapter_of(adapter)}
    sources = {"base": base_folder(base)} | ({"imatrix": imatrix} if imatrix else {})
    if sizes:
        if name or out:
            raise click.UsageError("--sizes builds nothing: leave --type and --out out")
        artifacts = {role: found for role, found in inputs.items() if found}
        _sizes(artifacts, sources, merge_base, options, as_json=as_json)
        return
    if name is None or out is None:
        raise click.UsageError(f"{'--type' if name is None else '--out'} is missing (or ask for --sizes)")
    format_, _, type_ = name.partition("-")
    if with_base is not None and format_ != "lora":
        raise click.UsageError(f"--with-base is for lora, not for {name}")
    if quantizer and format_ == "onnx":
        raise click.UsageError("--quantizer is an option of GGUF exports")
    own = _ONNX if format_ == "onnx" else set(options) - _ONNX if format_ == "gguf" else set()
    other = next((key for key in options if key not in own), "imatrix" if imatrix and format_ != "gguf" else None)
    if other is not None:
        whose = "ONNX" if other in _ONNX else "GGUF"
        raise click.UsageError(f"--{other.replace('_', '-')} is an option of {whose} exports")
    if "adapter_as" in options:
        options["adapter"] = options.pop("adapter_as")
    if with_base is not None:
        options = {"with_base": with_base}
    params = {"format": format_, "type": type_, "merge_base": merge_base, "quantizer": quantizer, "options": options}
    made = build("export", params, out, inputs=inputs, sources=sources)
    tell(made, out, as_json=as_json)


def _sizes(
    artifacts: dict[str, Any], sources: dict[str, Path], merge_base: str, options: dict[str, Any], *, as_json: bool
) -> None:
    """A line per type: its name, the bytes of its file, and what is to be known of it."""
    from dataclasses import asdict

    from edgeft import extras
    from edgeft.exporters.gguf.sizes import sizes
    from edgeft.exporters.gguf.types import TYPES
    from edgeft.files import human_size
    from edgeft.pipeline.stage import Inputs
    from edgeft.stages.export import source_of

    extras.require("gguf")
    given = {"imatrix": sources["imatrix"]} if "imatrix" in sources else {}
    found = sizes(source_of(Inputs(artifacts, sources), merge_base), {**options, **given})
    if as_json:
        print_json([asdict(sized) for sized in found])
        return
    for sized in found:
        notes = [TYPES[sized.type].help]
        if sized.imatrix and not given:
            notes.append("needs an importance matrix")
        if sized.fallbacks:
            notes.append(f"{sized.fallbacks} tensors fall back to a larger type")
        click.echo(f"gguf-{sized.type:<10} {sized.bytes:>14,}  {human_size(sized.bytes):>9}  {'; '.join(notes)}")
