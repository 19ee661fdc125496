"""The merged checkpoint: base and adapter to a Hugging Face folder, streamed from safetensors to safetensors.

Sharded as the base, every dtype kept, index rewritten; config, tokenizer and template copied. Peak memory is a few row
chunks and one weight's low-rank change. Called by `edgeft.stages.merge`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import StorageError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.card import code, front_matter, plain, relation_of, trained
from edgeft.files import digest_text, human_size, write_bytes, write_json, write_text
from edgeft.models.origin import origin_of
from edgeft.progress import Listener, Progress, silent
from edgeft.weights import Deferred
from edgeft.weights.checkpoint import INDEX, SINGLE, read_config, read_table, shards
from edgeft.weights.safetensors import raw_bytes, write_header
from edgeft.weights.threads import torch_threads

# What a folder needs besides its weights; nothing else of the base is copied (no code, no pickles, no leftovers).
_COPIED = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE",
)  # fmt: skip


def export(source: ExportSource, folder: Path, options: Mapping[str, Any], listen: Listener = silent) -> Exported:
    """Write the merged checkpoint into `folder`.

    options  threads: how many torch computes with (default: the cores this process may use)
    Raises `ModelError` for what does not fit together or is not finite, `StorageError` for a full or read-only disk.
    """
    config = read_config(source.base)
    weights = source.weights()
    files = _files(source.base, weights)
    total = sum(tensor.nbytes for tensor in weights.values())
    done = 0

    def wrote(count: int, name: str) -> None:
        nonlocal done
        done += count
        listen(Progress(done, total, "B", "merging", {"tensor": name}))

    threads = int(options.get("threads") or len(os.sched_getaffinity(0)))
    with storage_errors(folder), torch_threads(threads):
        free = shutil.disk_usage(folder).free
        if free < total:
            raise StorageError(
                f"the merged model needs {human_size(total)}, the disk has {human_size(free)} left",
                where=folder,
                do="free some space and run again; finished artifacts are intact",
            )
        for name, tensors in files.items():
            write_safetensors(folder / name, tensors, wrote)
        if (source.base / INDEX).is_file():
            _write_index(source.base, folder, files, total)
        template = _copy_companions(source, folder, _config(config, weights))
        write_text(folder / "README.md", _readme(source))
    facts = {
        "base": source.base_ref,
        "merge_base": source.folded_into(),
        "size": total,
        "tensors": len(weights),
        "files": len(files),
        "chat_template": template,
    }
    return Exported(facts, {"threads": threads})


def write_companions(source: ExportSource, folder: Path, weights: Mapping[str, Deferred]) -> None:
    """Everything of a merged checkpoint but its weights: config, tokenizer, template, generation settings."""
    _copy_companions(source, folder, _config(read_config(source.base), weights))


def write_safetensors(path: Path, tensors: Mapping[str, Deferred], wrote: Any = lambda count, name: None) -> None:
    """Write a safetensors file tensor by tensor, row chunk by row chunk; under its name only when it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            write_header(stream, tensors, {"format": "pt"})
            for name, tensor in tensors.items():
                count = 0
                for chunk in tensor.chunks():
                    count += stream.write(raw_bytes(chunk))
                if count != tensor.nbytes:
                    raise AssertionError(f"{name} came out {count} bytes long instead of {tensor.nbytes}")
                wrote(count, name)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _files(base: Path, weights: Mapping[str, Deferred]) -> dict[str, dict[str, Deferred]]:
    """File name -> its tensors, as the base has them; a single file is called model.safetensors."""
    listed = shards(base)
    if list(listed.values()) == [None]:
        return {SINGLE: dict(weights)}
    return {
        file: {name: tensor for name, tensor in weights.items() if name in set(names or ())}
        for file, names in listed.items()
    }


def _write_index(base: Path, folder: Path, files: Mapping[str, Mapping[str, Deferred]], total: int) -> None:
    metadata = {**(read_table(base / INDEX).get("metadata") or {}), "total_size": total}
    where = {name: file for file, tensors in files.items() for name in tensors}
    write_json(folder / INDEX, {"metadata": metadata, "weight_map": dict(sorted(where.items()))})


def _config(config: Mapping[str, Any], weights: Mapping[str, Deferred]) -> dict[str, Any]:
    """The config of what is written: of a 4-bit base without its quantization, with the dtype of the weights now."""
    if not config.get("quantization_config"):
        return dict(config)
    kept = {key: value for key, value in config.items() if key not in ("quantization_config", "torch_dtype")}
    largest = max(weights.values(), key=lambda tensor: tensor.numel)
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    return {**kept, "dtype": names.get(largest.dtype, kept.get("dtype"))}


def _copy_companions(source: ExportSource, folder: Path, config: Mapping[str, Any]) -> str | None:
    """Copy config, tokenizer and generation config, with the template and stop tokens that training taught; returns the
    digest of the chat template, when there is one."""
    base, taught = source.base, source.taught()
    write_json(folder / "config.json", config)
    for name in _COPIED:
        if (base / name).is_file():
            write_bytes(folder / name, (base / name).read_bytes())
    if taught.chat_template is not None:
        write_text(folder / "chat_template.jinja", taught.chat_template)
    if taught.stop_ids:
        path = folder / "generation_config.json"
        generation = read_table(path) if path.is_file() else {}
        known = generation.get("eos_token_id")
        if set(known if isinstance(known, list) else [known]) != set(taught.stop_ids):
            write_json(path, {**generation, "eos_token_id": list(taught.stop_ids)})
    template = folder / "chat_template.jinja"
    if template.is_file():
        return digest_text(template.read_text(encoding="utf-8"))
    settings = read_table(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    found = settings.get("chat_template")
    return digest_text(found) if isinstance(found, str) else None


def _readme(source: ExportSource) -> str:
    """The model card."""
    reference = origin_of(source.base, source.base_ref).reference
    base = code(reference) if reference else "a local base model"
    what = f"tuned from {base}" if source.adapter else base
    lines = [
        *front_matter(source, relation_of(source, quantized=False), ["edgeft"], "transformers"),
        f"# {plain(source.name)}",
        "",
        f"The merged checkpoint, {what}: weights and adapter in one, in the base's own precision.",
        "",
        "Python (`pip install transformers torch`), from this folder:",
        "",
        *(f"    {line}".rstrip() for line in _PYTHON.splitlines()),
        "",
        *trained(source),
    ]
    return "\n".join(lines).rstrip() + "\n"


_PYTHON = """from transformers import pipeline

chat = pipeline("text-generation", ".")
print(chat([{"role": "user", "content": "Hello"}], max_new_tokens=128, do_sample=False)[0]["generated_text"][-1])
"""
