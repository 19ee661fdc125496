"""Base and adapter to an onnxruntime-genai folder: built while the weights are read and folded, run once, described.

`export` is the "onnx" row of `edgeft.exporters.EXPORTS`; `check` says beforehand, without reading weights, if it can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeft.errors import InputError, ModelError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.onnx.accept import accept
from edgeft.exporters.onnx.builder import build
from edgeft.exporters.onnx.memory import give_back
from edgeft.exporters.onnx.options import TYPES, OnnxOptions, builder_options, parse_options, provider_of
from edgeft.exporters.onnx.settings import Settings, settings_of, write_settings
from edgeft.files import digest_text, remove_tree, walk_files
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import suggestion
from edgeft.weights import Weights
from edgeft.weights.checkpoint import read_config
from edgeft.weights.threads import torch_threads

GRAPH = "model.onnx"
_SCRATCH = ".scratch"
# The text decoders of builder 0.18; `check` refuses others before any weight is read.
ARCHITECTURES = tuple(
    f"{name}ForCausalLM"
    for name in (
        "Ernie4_5", "Gemma", "Gemma2", "Gemma3", "Granite", "HunYuanDenseV1", "Lfm2", "Llama", "Mistral", "Nemotron",
        "Olmo", "Phi", "Phi3", "Qwen2", "Qwen3", "SmolLM3",
    )
)  # fmt: skip
_HEAD_MULTIPLE = 16  # ONNX Runtime's GroupQueryAttention


def check(base: Path, type_name: str) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. Reads JSON only; imports nothing heavy."""
    if type_name not in TYPES:
        raise InputError(f"unknown ONNX type {type_name!r}", do=suggestion(type_name, TYPES))
    config = read_config(base)
    names = config.get("architectures") or ["(none)"]
    if names[0] not in ARCHITECTURES:
        raise ModelError(
            f"onnxruntime-genai's builder does not export the architecture {names[0]}",
            where=base / "config.json",
            do=f"it exports {', '.join(name.removesuffix('ForCausalLM') for name in ARCHITECTURES)}",
        )
    size = _head_size(config)
    if size % _HEAD_MULTIPLE:
        raise ModelError(
            f"its attention heads have the size {size}; ONNX Runtime needs a multiple of {_HEAD_MULTIPLE}",
            where=base / "config.json",
            do="export GGUF instead",
        )


def _head_size(config: Mapping[str, Any]) -> int:
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    return int(config.get("head_dim") or (hidden // heads if heads and hidden else 0))


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `model.onnx`, its data file, `genai_config.json`, the tokenizer's files and a README.md into `folder`.

    options  see `OnnxOptions`

    The graph has been run on this machine's ONNX Runtime when this returns. Raises `ModelError` for what the builder
    cannot do, `EdgeftError` for a graph that ONNX Runtime does not run.
    """
    chosen = parse_options(options)
    check(source.base, type_name)
    config = read_config(source.base)
    tied = bool(config.get("tie_word_embeddings"))
    switches = builder_options(chosen, type_name, tied=tied)
    threads = chosen.threads or len(os.sched_getaffinity(0))
    with _scratch(folder) as scratch, storage_errors(folder), torch_threads(threads):
        checkpoint, weights = _checkpoint(source, scratch, chosen, listen)
        listen(Progress(1, 3, "step", f"building the {type_name} graph"))
        settings = settings_of(checkpoint, source.adapter, config, chosen.max_length)
        give_back()  # the tokenizer of a large vocabulary
        build(
            checkpoint,
            folder,
            precision=type_name,
            options=switches,
            cache=scratch / "cache",
            provider=provider_of(chosen, type_name),
            weights=weights,
        )
        write_settings(folder, checkpoint, settings, source, type_name)
    listen(Progress(2, 3, "step", "running the graph once"))
    give_back()
    accept(folder / GRAPH, vocab_size=settings.vocab_size, head_size=_head_size(config), type_name=type_name)
    listen(Progress(3, 3, "step", "done"))
    return Exported(_facts(source, type_name, folder, chosen, settings))


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder inside `folder` that is gone afterwards."""
    scratch = folder / _SCRATCH
    remove_tree(scratch)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        remove_tree(scratch)


def _checkpoint(
    source: ExportSource, scratch: Path, options: OnnxOptions, listen: Listener
) -> tuple[Path, Weights | None]:
    """What the builder reads: a checkpoint folder without weights, and the weights; or (the stock way) a whole one."""
    from edgeft.exporters import hf

    if options.builder == "streamed":
        described = scratch / "described"
        described.mkdir()
        weights = source.weights()
        hf.write_companions(source, described, weights)
        return described, weights
    if source.adapter is None:
        return source.base, None
    merged = scratch / "merged"
    merged.mkdir()
    hf.export(source, merged, {} if options.threads is None else {"threads": options.threads}, listen)
    return merged, None


def _facts(
    source: ExportSource, type_name: str, folder: Path, options: OnnxOptions, settings: Settings
) -> dict[str, Any]:
    sizes = {name: path.stat().st_size for name, path in walk_files(folder)}
    return {
        "format": "onnx",
        "type": type_name,
        "file": GRAPH,
        "size": sum(size for name, size in sizes.items() if name.startswith(GRAPH)),
        "base": source.base_ref,
        "merge_base": source.merge_base if source.adapter else None,
        "options": {} if type_name == "fp32" else options.model_dump(exclude={"threads", "max_length"}),
        "vocab_size": settings.vocab_size,
        "context_length": settings.context_length,
        "stop_ids": list(settings.stop_ids),
        "chat_template": digest_text(settings.template) if settings.template else None,
        "tried": "one text whole, and its last token from the cache",
    }
