"""Base and adapter to one GGUF file in one pass: read a tensor, fold, round, rearrange, quantize, write it.

`export` is the "gguf" row of `edgeft.exporters.EXPORTS`; `check` says before, without reading weights, if it can.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf import card, ollama
from edgeft.exporters.gguf.families import family_of
from edgeft.exporters.gguf.layout import layout
from edgeft.exporters.gguf.types import FileType, file_type
from edgeft.exporters.gguf.vocab import Vocabulary, as_taught, put_vocabulary, read_vocabulary
from edgeft.exporters.gguf.writer import Header, write_file
from edgeft.files import digest_text, write_text
from edgeft.progress import Listener, silent
from edgeft.weights import Deferred
from edgeft.weights.checkpoint import read_config
from edgeft.weights.threads import torch_threads


def check(base: Path, type_name: str) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. Reads JSON only; imports nothing heavy."""
    file_type(type_name)
    config = read_config(base)
    family_of(config).check(config)
    read_vocabulary(base, config)


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `NAME-TYPE.gguf`, a README.md with the commands to use it, and a Modelfile for Ollama into `folder`.

    options  threads: how many quantize at once (default: the cores this process may use)
    """
    kind = file_type(type_name)
    config = read_config(source.base)
    family = family_of(config)
    family.check(config)
    taught = source.taught()
    vocabulary = as_taught(read_vocabulary(source.base, config), taught.chat_template, taught.stop_ids)
    threads = int(options.get("threads") or available_cores())
    with torch_threads(threads), storage_errors(folder):
        tensors: dict[str, Deferred] = family.tensors(config, source.weights())
        metadata = _metadata(source, config, kind, family, vocabulary, tensors)
        plan = layout(kind, family.ARCH, metadata, tensors, folder)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        path = folder / file_name(source.name, type_name)
        write_file(path, Header(family.ARCH, metadata, shapes, plan.types), tensors, threads=threads, listen=listen)
    refused = ollama.write_modelfile(folder, path.name, source.base, vocabulary, config)
    shipped = card.Shipped(path.name, f"{kind.name}, {kind.help}", path.stat().st_size, refused)
    write_text(folder / "README.md", card.readme(source, shipped))
    facts = {
        "format": "gguf",
        "type": kind.name,
        "file": path.name,
        "size": path.stat().st_size,
        "architecture": family.ARCH,
        "base": source.base_ref,
        "merge_base": source.folded_into(),
        "tensors": dict(sorted(Counter(name.lower() for name in plan.types.values()).items())),
        "fallbacks": plan.fallbacks,
        "pre_tokenizer": vocabulary.pre,
        "vocab_size": len(vocabulary.tokens),
        "chat_template": digest_text(vocabulary.template) if vocabulary.template else None,
        "modelfile": refused or ollama.FILE,
    }
    return Exported(facts, {"threads": threads})


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
) -> list[tuple[str, Any, str]]:
    """All keys in order. The last two stand where llama.cpp's quantizer puts them: files can be compared whole."""
    import gguf

    found: list[tuple[str, Any, str]] = []

    def put(key: str, value: Any, value_kind: str) -> None:
        found.append((key, value, value_kind))

    put("general.type", "model", "string")
    put("general.name", source.name, "string")
    found.extend(card.lineage(source))
    count = sum(tensor.numel for tensor in tensors.values())
    put("general.size_label", gguf.size_label(count, count, 0, 0), "string")
    family.metadata(config, put)
    put_vocabulary(vocabulary, put)
    put("general.quantization_version", gguf.GGML_QUANT_VERSION, "uint32")
    put("general.file_type", kind.number, "uint32")
    return found
