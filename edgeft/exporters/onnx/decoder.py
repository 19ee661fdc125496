"""Base and adapter to an onnxruntime-genai folder: merged into a scratch checkpoint, built, run once, described.

`export` is the "onnx" row of `edgeft.exporters.EXPORTS`; `check` says beforehand, without reading weights, whether it can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeft.errors import InputError, ModelError
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.onnx.accept import accept
from edgeft.exporters.onnx.builder import build
from edgeft.exporters.onnx.options import TYPES, OnnxOptions, builder_options, parse_options
from edgeft.exporters.onnx.settings import Settings, settings_of, write_settings
from edgeft.files import digest_text, remove_tree, walk_files
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import suggestion
from edgeft.weights.checkpoint import read_config

GRAPH = "model.onnx"
_SCRATCH = ".scratch"
_HEAD_MULTIPLE = 16  # ONNX Runtime's GroupQueryAttention


def check(base: Path, type_name: str) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. Reads JSON only; imports nothing heavy."""
    if type_name not in TYPES:
        raise InputError(f"unknown ONNX type {type_name!r}", do=suggestion(type_name, TYPES))
    config = read_config(base)
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    size = config.get("head_dim") or (hidden // heads if heads and hidden else 0)
    if size % _HEAD_MULTIPLE:
        raise ModelError(
            f"its attention heads have the size {size}; ONNX Runtime needs a multiple of {_HEAD_MULTIPLE}",
            where=base / "config.json",
            do="export GGUF instead",
        )


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `model.onnx`, its data file, `genai_config.json`, the tokenizer's files and a README.md into `folder`.

    options  see `OnnxOptions`. The graph has been run on this machine's ONNX Runtime when this returns. Raises `ModelError`
    for what the builder cannot do, `EdgeftError` for a graph that ONNX Runtime does not run.
    """
    chosen = parse_options(options)
    check(source.base, type_name)
    config = read_config(source.base)
    with _checkpoint(source, folder, chosen, listen) as (checkpoint, scratch):
        listen(Progress(1, 3, "step", f"building the {type_name} graph"))
        settings = settings_of(checkpoint, source.adapter, config, chosen.max_length)
        switches = builder_options(chosen, type_name, tied=bool(config.get("tie_word_embeddings")))
        build(checkpoint, folder, precision=type_name, options=switches, cache=scratch / "cache")
        write_settings(folder, checkpoint, settings, source, type_name)
    listen(Progress(2, 3, "step", "running the graph once"))
    accept(folder / GRAPH, vocab_size=settings.vocab_size, type_name=type_name)
    listen(Progress(3, 3, "step", "done"))
    return Exported(_facts(source, type_name, folder, chosen, settings))


@contextmanager
def _checkpoint(
    source: ExportSource, folder: Path, options: OnnxOptions, listen: Listener
) -> Iterator[tuple[Path, Path]]:
    """(the checkpoint to build from, a scratch folder); both are gone afterwards when they were made here."""
    from edgeft.exporters import hf

    scratch = folder / _SCRATCH
    remove_tree(scratch)
    scratch.mkdir(parents=True)
    try:
        if source.adapter is None:
            yield source.base, scratch
            return
        merged = scratch / "merged"
        merged.mkdir()
        hf.export(source, merged, {} if options.threads is None else {"threads": options.threads}, listen)
        yield merged, scratch
    finally:
        remove_tree(scratch)


def _facts(
    source: ExportSource, type_name: str, folder: Path, options: OnnxOptions, settings: Settings
) -> dict[str, Any]:
    sizes = {name: path.stat().st_size for name, path in walk_files(folder)}
    quantized = type_name != "fp32"
    return {
        "format": "onnx",
        "type": type_name,
        "file": GRAPH,
        "size": sum(size for name, size in sizes.items() if name.startswith(GRAPH)),
        "base": source.base_ref,
        "merge_base": source.merge_base if source.adapter else None,
        "options": options.model_dump(exclude={"threads", "max_length"}) if quantized else {},
        "vocab_size": settings.vocab_size,
        "context_length": settings.context_length,
        "stop_ids": list(settings.stop_ids),
        "chat_template": digest_text(settings.template) if settings.template else None,
        "tried": "one text whole, and its last token from the cache",
    }
