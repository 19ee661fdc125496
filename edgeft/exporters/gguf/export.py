"""Base and adapter to one GGUF file in one pass: read a tensor, fold, round, rearrange, quantize, write it.

`export` is the "gguf" row of `edgeft.exporters.EXPORTS`; `check` says before, without reading weights, if it can.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import InputError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf import card, collector, ollama
from edgeft.exporters.gguf.families import family_of, left_out, model_config
from edgeft.exporters.gguf.header import Header
from edgeft.exporters.gguf.imatrix import Imatrix, read_imatrix
from edgeft.exporters.gguf.layout import Layout, in_need, layout, shapes_of
from edgeft.exporters.gguf.quantize import Quantizer
from edgeft.exporters.gguf.types import FileType, file_type
from edgeft.exporters.gguf.vocab import Vocabulary, as_taught, name_for, put_vocabulary, read_vocabulary
from edgeft.exporters.gguf.wanted import wanted_of
from edgeft.exporters.gguf.writer import write_file
from edgeft.files import digest_file, digest_text, write_text
from edgeft.progress import Listener, silent
from edgeft.weights import Deferred, Weights
from edgeft.weights.threads import torch_threads

PLAIN = ("F32", "F16", "BF16")
_LONGEST = 127  # bytes that llama.cpp's quantizer keeps of a name


def check(base: Path, type_name: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. Reads JSON only; imports nothing heavy."""
    file_type(type_name)
    check_base(base)


def check_base(base: Path) -> None:
    """Raise a `ModelError` when a base's family, settings or tokenizer cannot be said in GGUF. Reads JSON only."""
    config = model_config(base)
    family_of(config).check(config)
    read_vocabulary(base, config)


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `NAME-TYPE.gguf` (or its shards), a README.md with the commands to use it, and a Modelfile for Ollama (it
    takes no shards) into `folder`.

    options  threads: how many quantize at once (default: the cores this process may use)
             quantizer: auto (the default), fast or ggml; see `edgeft.exporters.gguf.quantize`
             imatrix: file of an importance matrix; tensor_types, token_embedding_type, output_tensor_type,
             max_shard_size: see `edgeft.exporters.gguf.wanted`

    An `InputError` for a type that needs an importance matrix which is not given or lacks a weight.
    """
    kind = file_type(type_name)
    wanted = wanted_of(options, kind)
    imatrix = read_imatrix(wanted.imatrix) if wanted.imatrix else None
    threads = int(options.get("threads") or available_cores())
    which = str(options.get("quantizer") or "auto")
    with (
        collector.paused(),
        # Folding goes on beside quantizing, and torch's threads keep a core busy while they wait for the next tensor.
        torch_threads(max(1, threads // 2)),
        storage_errors(folder),
        Quantizer(threads, which, listen) as quantizer,
    ):
        parts = parts_of(source, kind, imatrix)
        plan = layout(kind, parts.arch, parts.metadata, parts.tensors, folder, wanted)
        _check_imatrix(kind, plan, parts, imatrix)
        shapes = shapes_of(kind, parts.tensors)
        paths = write_file(
            folder / file_name(source.name, type_name),
            Header(parts.arch, parts.metadata, shapes, plan.types),
            parts.tensors,
            quantizer=quantizer,
            listen=listen,
            importance=imatrix.importance if imatrix else None,
            max_shard=wanted.max_shard_size,
        )
    size = sum(path.stat().st_size for path in paths)
    if len(paths) > 1:
        refused: str | None = f"Ollama takes no shards; llama-gguf-split --merge {paths[0].name} OUT joins them"
    else:
        config, system = model_config(source.base), source.taught().system
        refused = ollama.write_modelfile(folder, paths[0].name, source.base, parts.vocabulary, config, system=system)
    what = f"{kind.name}, {kind.help}" + (f", in {len(paths)} files" if len(paths) > 1 else "")
    write_text(folder / "README.md", card.readme(source, card.Shipped(paths[0].name, what, size, refused)))
    facts = _facts(source, kind, parts, plan) | {
        "file": paths[0].name,
        "size": size,
        "modelfile": refused or ollama.FILE,
    }
    if parts.left_out:
        facts["left_out"] = parts.left_out
    if len(paths) > 1:
        facts["shards"] = [path.name for path in paths]
    if imatrix and wanted.imatrix:
        facts["imatrix"] = {
            "digest": digest_file(wanted.imatrix),
            "datasets": list(imatrix.datasets),
            "chunks": imatrix.chunk_count,
            "without": _without(plan, parts, imatrix),
        }
    return Exported(facts, {"threads": threads, **quantizer.measurements()})


@dataclass(frozen=True)
class Parts:
    """What a file is made of: everything but the types of its tensors."""

    arch: str
    metadata: list[tuple[str, Any, str]]
    tensors: dict[str, Deferred]
    vocabulary: Vocabulary
    left_out: int = 0  # tensors of the checkpoint that are no part of the text model


def parts_of(source: ExportSource, kind: FileType, imatrix: Imatrix | None, weights: Weights | None = None) -> Parts:
    """Metadata, tensors and vocabulary of a source; `weights` in place of its own."""
    config = model_config(source.base)
    family = family_of(config)
    family.check(config)
    taught = source.taught()
    vocabulary = as_taught(read_vocabulary(source.base, config), taught.chat_template, taught.stop_ids)
    weights = source.weights() if weights is None else weights
    tensors: dict[str, Deferred] = family.tensors(config, weights)
    metadata = _metadata(source, config, kind, family, vocabulary, tensors, imatrix)
    return Parts(family.ARCH, metadata, tensors, vocabulary, left_out(config, weights))


def _facts(source: ExportSource, kind: FileType, parts: Parts, plan: Layout) -> dict[str, Any]:
    """What is known of the file before it is written."""
    vocabulary = parts.vocabulary
    return {
        "format": "gguf",
        "type": kind.name,
        "architecture": parts.arch,
        "base": source.base_ref,
        "merge_base": source.folded_into(),
        "tensors": dict(sorted(Counter(name.lower() for name in plan.types.values()).items())),
        "fallbacks": {name: list(pair) for name, pair in sorted(plan.fallbacks.items())},
        "tokenizer": vocabulary.model,
        "pre_tokenizer": vocabulary.pre,
        "tokenizer_differences": list(vocabulary.differences),
        "vocab_size": len(vocabulary.tokens),
        "chat_template": digest_text(vocabulary.template) if vocabulary.template else None,
    }


def _check_imatrix(kind: FileType, plan: Layout, parts: Parts, imatrix: Imatrix | None) -> None:
    """Refuse now, not in the middle of the file, what llama.cpp would refuse or what would make ggml abort."""
    known = imatrix.entries if imatrix else {}
    for name in in_need(kind, plan.types):
        if name not in known:
            need = f"{plan.types[name].lower()} cannot be chosen well without an importance matrix"
            if imatrix:
                what = f"{need}, and this one lacks {name}"
                raise InputError(what, where=imatrix.where, do="compute one of this model, or choose another type")
            raise InputError(
                f"{need}, and there is none ({name})", do="write imatrix: true in the recipe, or give --imatrix FILE"
            )
    for name, tensor in parts.tensors.items():
        if imatrix and plan.types[name] not in PLAIN:
            imatrix.importance(name, tensor.shape)


def _without(plan: Layout, parts: Parts, imatrix: Imatrix) -> list[str]:
    """The quantized tensors that the importance matrix says nothing of."""
    return sorted(
        name for name, type_name in plan.types.items() if type_name not in PLAIN and name not in imatrix.entries
    )


def available_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_name(name: str, type_name: str) -> str:
    """A file name that every system takes: NAME-TYPE.gguf."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'model'}-{type_name}.gguf"


def _metadata(
    source: ExportSource,
    config: Mapping[str, Any],
    kind: FileType,
    family: Any,
    vocabulary: Vocabulary,
    tensors: Mapping[str, Deferred],
    imatrix: Imatrix | None,
) -> list[tuple[str, Any, str]]:
    """All keys in order. The last stand where llama.cpp's quantizer puts them: files can be compared whole."""
    import gguf

    found: list[tuple[str, Any, str]] = []

    def put(key: str, value: Any, value_kind: str) -> None:
        found.append((key, value, value_kind))

    put("general.type", "model", "string")
    put("general.name", name_for(vocabulary, source.name), "string")
    found.extend(card.lineage(source))
    count = sum(tensor.numel for tensor in tensors.values())
    put("general.size_label", gguf.size_label(count, count, 0, 0), "string")
    family.metadata(config, put)
    put_vocabulary(vocabulary, put)
    put("general.quantization_version", gguf.GGML_QUANT_VERSION, "uint32")
    put("general.file_type", kind.number, "uint32")
    if imatrix:
        put("quantize.imatrix.file", imatrix.where.name[:_LONGEST] if imatrix.where else "imatrix.gguf", "string")
        if imatrix.datasets:
            put("quantize.imatrix.dataset", imatrix.datasets[0][:_LONGEST], "string")
        put("quantize.imatrix.entries_count", len(imatrix.entries), "uint32")
        if imatrix.chunk_count:
            put("quantize.imatrix.chunks_count", imatrix.chunk_count, "uint32")
    return found
