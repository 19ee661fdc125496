"""Base and adapter to an onnxruntime-genai folder: built while the weights are read and folded, run once, described.

`export` is the "onnx" row of `edgeft.exporters.EXPORTS`; `check` says beforehand, without reading weights, if it can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.errors import InputError, ModelError, RecipeError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.hf import write_companions
from edgeft.exporters.onnx import optimum
from edgeft.exporters.onnx.accept import accept, check_runs
from edgeft.exporters.onnx.apart import SUFFIX, check_apart, open_for_adapters, write_adapter
from edgeft.exporters.onnx.builder import build
from edgeft.exporters.onnx.late import NotCarried
from edgeft.exporters.onnx.memory import give_back
from edgeft.exporters.onnx.options import TYPES, OnnxOptions, builder_options, parse_options, provider_of, table_of
from edgeft.exporters.onnx.reference import compared, logits_of
from edgeft.exporters.onnx.settings import Settings, adapter_readme, settings_of, write_settings
from edgeft.exporters.onnx.trials import TEXTS
from edgeft.files import digest_text, remove_tree, walk_files, write_text
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import suggestion
from edgeft.weights import Weights
from edgeft.weights.adapter import Adapter
from edgeft.weights.checkpoint import read_config
from edgeft.weights.threads import torch_threads

GRAPH = "model.onnx"
_SCRATCH, _DESCRIBED = ".scratch", "described"
# The text decoders of builder 0.18 (its SmolLM3 fails); `check` refuses others before any weight is read.
ARCHITECTURES = tuple(
    f"{name}ForCausalLM"
    for name in (
        "Ernie4_5", "Gemma", "Gemma2", "Gemma3", "Granite", "GraniteMoeHybrid", "HunYuanDenseV1", "Lfm2", "Llama",
        "Mistral", "Nemotron", "Olmo", "Phi", "Phi3", "Qwen2", "Qwen3",
    )
)  # fmt: skip
# Families whose embeddings are tied unless config.json says otherwise.
TIED_BY_DEFAULT = ("ernie4_5", "gemma", "gemma2", "gemma3", "gemma3_text", "lfm2")
_HEAD_MULTIPLE = 16  # ONNX Runtime's GroupQueryAttention
_TRIAL = 24  # tokens of the text that a graph is tried with


def check(base: Path, type_name: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. Reads JSON only; imports nothing heavy.

    What `backend: optimum` can export, only optimum knows; that it is there is asked here.
    """
    if type_name not in TYPES:
        raise InputError(f"unknown ONNX type {type_name!r}", do=suggestion(type_name, TYPES))
    config = read_config(base)
    if (options or {}).get("backend") == "optimum":
        optimum.check(type_name)
        return
    if type_name == "bf16":  # the one type that the default device does not run: told before hours are spent
        provider_of(parse_options(options or {}), type_name)
    names = config.get("architectures") or ["(none)"]
    if names[0] not in ARCHITECTURES:
        raise ModelError(
            f"onnxruntime-genai's builder does not export the architecture {names[0]}",
            where=base / "config.json",
            do=f"it exports {', '.join(name.removesuffix('ForCausalLM') for name in ARCHITECTURES)}",
        )
    if config.get("num_local_experts") or "mamba" in (
        config.get("layer_types") or config.get("layers_block_type") or ()
    ):
        raise ModelError(
            "onnxruntime-genai's builder exports dense models with attention layers only",
            where=base / "config.json",
            do="export GGUF instead",
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
    """Write `model.onnx`, its data file, `genai_config.json`, the tokenizer's files, run.py and a README.md.

    options  see `OnnxOptions`

    The graph has been run on this machine's ONNX Runtime when this returns. Raises `ModelError` for what the builder
    cannot do, `EdgeftError` for a graph that ONNX Runtime does not run.
    """
    chosen = parse_options(options)
    check(source.base, type_name, options)
    check_runs(type_name)
    config = read_config(source.base)
    if chosen.backend == "optimum":
        return _by_optimum(source, type_name, folder, chosen, listen)
    switches = builder_options(chosen, type_name, tied=_is_tied(config))
    provider = provider_of(chosen, type_name)
    adapter = _apart(source, chosen)
    threads = chosen.threads or len(os.sched_getaffinity(0))
    with _scratch(folder) as scratch, storage_errors(folder), torch_threads(threads):
        if adapter:
            write_adapter(
                folder / f"{source.name}{SUFFIX}", adapter, "F32" if _in_floats(type_name, provider) else "F16"
            )
        if chosen.adapter == "only":
            return _adapter_alone(source, type_name, folder, chosen)
        used = replace(source, fold=False) if adapter else source
        settings, facts = _built(used, type_name, folder, scratch, chosen, switches, provider, listen)
        if adapter:
            open_for_adapters(folder / GRAPH)
        write_settings(folder, scratch / _DESCRIBED, settings, source, type_name, chosen)
        facts |= _tried(used, folder, scratch / _DESCRIBED, type_name, chosen, settings, _head_size(config), listen)
    listen(Progress(3, 3, "step", "done"))
    told = _facts(source, type_name, folder, chosen, settings)
    if type_name == "int8" and facts["builder"] == "stock":
        told["options"] |= {"embeddings": "float"}
    return Exported({**told, **facts})


def _tried(
    source: ExportSource,
    folder: Path,
    checkpoint: Path,
    type_name: str,
    options: OnnxOptions,
    settings: Settings,
    head_size: int,
    listen: Listener,
) -> dict[str, Any]:
    """Run the graph on a built-in text, whole and from its cache, and compare it with the model that went in."""
    listen(Progress(2, 3, "step", "running the graph once"))
    give_back()
    tokens = _trial(checkpoint, settings)
    sizes = {"vocab_size": settings.vocab_size, "head_size": head_size}
    given = accept(folder / GRAPH, type_name=type_name, tokens=tokens, **sizes)
    tried: dict[str, Any] = {"tried": "one text whole, and its last token from the cache"}
    if not options.check or len(tokens) < 2:
        return {**tried, "compared": None}
    listen(Progress(2, 3, "step", "comparing with the model, layer by layer"))
    give_back()
    return {**tried, "compared": compared(logits_of(checkpoint, source.weights(), tokens), given, type_name)}


def _trial(checkpoint: Path, settings: Settings) -> list[int]:
    """A few tokens of a built-in text, as the model's tokenizer gives them."""
    from edgeft.models.tokenizer import load_tokenizer

    ids = list(load_tokenizer(checkpoint)(TEXTS[0], verbose=False)["input_ids"])[:_TRIAL]
    return ids if ids and max(ids) < settings.vocab_size else []


def _built(
    source: ExportSource,
    type_name: str,
    folder: Path,
    scratch: Path,
    options: OnnxOptions,
    switches: list[str],
    provider: str,
    listen: Listener,
) -> tuple[Settings, dict[str, Any]]:
    """Build the graph by the way that was chosen; what the files must say of the model, and how it went."""
    weights = source.weights()
    described = scratch / _DESCRIBED
    described.mkdir()
    write_companions(source, described, weights)
    settings = settings_of(described, source.adapter, read_config(source.base), options.max_length)
    give_back()  # the tokenizer of a large vocabulary

    def build_with(checkpoint: Path, given: Weights | None) -> None:
        listen(Progress(1, 3, "step", f"building the {type_name} graph"))
        cache = scratch / "cache"
        table = given is not None and table_of(options, type_name) == "quantized"
        build(
            checkpoint, folder, precision=type_name, options=switches, cache=cache, provider=provider, weights=given,
            table=table,
        )  # fmt: skip

    if options.builder == "stock":
        build_with(_merged(source, scratch, options, listen), None)
        return settings, {"builder": "stock"}
    try:
        build_with(described, weights)
        return settings, {"builder": "streamed"}
    except NotCarried as error:
        if options.builder == "streamed":
            raise
        build_with(_merged(source, scratch, options, listen), None)
        return settings, {"builder": "stock", "warnings": [f"built the stock way, in memory: {error.what}"]}


def _apart(source: ExportSource, options: OnnxOptions) -> Adapter | None:
    if options.adapter == "merged":
        return None
    if source.adapter is None:
        raise RecipeError(f"the ONNX option `adapter: {options.adapter}` needs an adapter, and there is none")
    if options.layout != "genai":
        raise RecipeError("transformers.js reads no adapter files", do="write adapter: merged, or layout: genai")
    return check_apart(source.adapter)


def _in_floats(type_name: str, provider: str) -> bool:
    return type_name == "fp32" or (type_name in ("int8", "int4") and provider == "cpu")


def _adapter_alone(source: ExportSource, type_name: str, folder: Path, options: OnnxOptions) -> Exported:
    """The adapter file and nothing else; the base is another export of the same type."""
    path = folder / f"{source.name}{SUFFIX}"
    write_text(folder / "README.md", adapter_readme(source, path.name, type_name))
    facts = {"format": "onnx", "type": type_name, "file": path.name, "size": path.stat().st_size, "adapter": "only"}
    return Exported({**facts, "base": source.base_ref, "merge_base": source.folded_into()})


def _by_optimum(source: ExportSource, type_name: str, folder: Path, chosen: OnnxOptions, listen: Listener) -> Exported:
    head_size = _head_size(read_config(source.base))
    with _scratch(folder) as scratch, storage_errors(folder):
        settings, versions = optimum.export(source, type_name, folder, chosen, head_size, scratch, listen)
        (described := scratch / _DESCRIBED).mkdir()
        write_companions(source, described, source.weights())
        facts = _tried(source, folder, described, type_name, chosen, settings, head_size, listen)
    listen(Progress(3, 3, "step", "done"))
    made = {"backend": "optimum", "made_by": versions}
    return Exported({**_facts(source, type_name, folder, chosen, settings), **facts, **made})


def _is_tied(config: Mapping[str, Any]) -> bool:
    """As transformers understands config.json: a family's own default where the key is left out."""
    own = config.get("tie_word_embeddings", config.get("model_type") in TIED_BY_DEFAULT)
    return bool(config.get("tie_embedding", own) if config.get("model_type") == "lfm2" else own)


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


def _merged(source: ExportSource, scratch: Path, options: OnnxOptions, listen: Listener) -> Path:
    """A whole checkpoint for the builder as it is: the base, or one that is merged to disk first."""
    from edgeft.exporters import hf

    if source.adapter is None:
        return source.base
    merged = scratch / "merged"
    merged.mkdir()
    hf.export(source, merged, {} if options.threads is None else {"threads": options.threads}, listen)
    return merged


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
        "options": _said(options, type_name),
        "provider": options.target,
        "adapter": options.adapter if source.adapter else None,
        "vocab_size": settings.vocab_size,
        "context_length": settings.context_length,
        "stop_ids": list(settings.stop_ids),
        "chat_template": digest_text(settings.template) if settings.template else None,
    }


def _said(options: OnnxOptions, type_name: str) -> dict[str, Any]:
    """The options that decide how weights are stored."""
    if type_name not in ("int8", "int4"):
        return {}
    if options.backend == "optimum":
        return {"block_size": options.block, "accuracy_level": options.accuracy_level}
    names = ("symmetric", "accuracy_level", "algorithm", "head", "layers")
    said = {"block_size": options.block, **{name: getattr(options, name) for name in names}}
    return {**said, "embeddings": table_of(options, type_name)}
