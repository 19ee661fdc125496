"""What a GGUF file says about itself and where it comes from, and the README.md beside it: a model card with the exact
commands to use it.

Called by `export` and `lora`. Names that come from outside (the base's card, folder names) are escaped for the place
they stand in; where a local folder lies on this machine stays on this machine.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeft import __version__
from edgeft.exporters import ExportSource
from edgeft.exporters.card import as_json, code, datasets, front_matter, one_line, plain, relation_of, trained
from edgeft.files import digest_file, human_size
from edgeft.models.identity import read_training
from edgeft.models.origin import Origin, origin_of

_HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Shipped:
    """The file that a card is about: its name, what it is in a few words, its size in bytes, and why there is no
    Modelfile (None: there is one)."""

    file: str
    what: str
    size: int
    no_modelfile: str | None


def base_name(source: ExportSource) -> str:
    """A short name of the base: "sprout", "Qwen3-0.6B"."""
    return origin_of(source.base, source.base_ref).short


def lineage(source: ExportSource) -> Iterator[tuple[str, Any, str]]:
    """Metadata (key, value, kind) about where a file comes from: `general.*` as llama.cpp and hubs read them, and
    edgeft's own. Reproducible: no times, no places."""
    origin = origin_of(source.base, source.base_ref)
    if source.adapter and source.fold:
        yield "general.finetune", source.name, "string"
    if origin.license:
        yield "general.license", origin.license, "string"
    if origin.name:
        yield "general.base_model.count", 1, "uint32"
        yield "general.base_model.0.name", origin.name, "string"
        if origin.organization:
            yield "general.base_model.0.organization", origin.organization, "string"
            yield "general.base_model.0.repo_url", f"{_HUB}{origin.organization}/{origin.name}", "string"
    yield "general.tags", ["edgeft", "text-generation"], "array"
    if origin.languages:
        yield "general.languages", list(origin.languages), "array"
    if named := datasets(source):
        yield "general.datasets", named, "array"
    yield "edgeft.version", __version__, "string"
    if source.adapter:
        if source.fold:
            yield "edgeft.adapter.digest", digest_file(source.adapter / "adapter_model.safetensors"), "string"
        yield "edgeft.merge_base", source.folded_into(), "string"
        if digest := ((read_training(source.adapter) or {}).get("base") or {}).get("digest"):
            yield "edgeft.base.digest", str(digest), "string"


def readme(source: ExportSource, shipped: Shipped) -> str:
    """The card of a whole model's file."""
    file = shlex.quote(shipped.file)
    lines = [
        *front_matter(source, relation_of(source, quantized=True), _tags(source)),
        *_heading(source, shipped),
        "The chat template and the stop tokens are inside the file.",
        "",
        *_section("llama.cpp", [
            f"llama-cli -m {file} --jinja{_cli_system(source)}",
            f"llama-server -m {file} --jinja --port 8080",
        ]),
        *_section("LM Studio", [f"lms import {file}"]),
        *_ollama(source, shipped),
        *_section("Python (`pip install llama-cpp-python`)", _python(shipped.file, system=source.taught().system)),
        *trained(source),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _cli_system(source: ExportSource) -> str:
    """The option of llama-cli with the system message that the model was trained with."""
    system = source.taught().system
    return f" -sys {shlex.quote(system)}" if system and one_line(system) == system else ""


def lora_readme(source: ExportSource, shipped: Shipped, base_file: str, *, beside: bool) -> str:
    """The card of an adapter's file, which goes on `base_file` (which lies beside it or has to be made)."""
    file, base = shlex.quote(shipped.file), shlex.quote(base_file)
    lines = [
        *front_matter(source, "adapter", _tags(source)),
        *_heading(source, shipped),
        *_base_of_lora(source, base_file, beside),
        *_section("llama.cpp", [
            f"llama-cli -m {base} --lora {file} --jinja{_cli_system(source)}",
            f"llama-server -m {base} --lora {file} --jinja --port 8080",
        ]),
        *_ollama(source, shipped),
        *_section("Python (`pip install llama-cpp-python`)", _python(base_file, shipped.file, source.taught().system)),
        *trained(source),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _base_of_lora(source: ExportSource, base_file: str, beside: bool) -> list[str]:
    exact = source.folded_into() == "dequantized"
    which = "the base as it was quantized in training, and no other" if exact else "any GGUF file of the base"
    lines = [f"It goes on {which}: `{base_file}`" + (", beside it." if beside else ". To make that file:"), ""]
    if not beside:
        ref = shlex.quote(origin_of(source.base, source.base_ref).reference or "BASE")
        command = f"edgeft export --base {ref}"
        command += " --adapter ADAPTER --type lora-f16 --with-base f16" if exact else " --type gguf-f16"
        lines += [f"    {command} --out base", f"    mv base/{shlex.quote(base_file)} .", ""]
    return lines


def _tags(source: ExportSource) -> list[str]:
    return ["gguf", "edgeft", "llama.cpp", *(["lora"] if source.adapter else [])]


def _heading(source: ExportSource, shipped: Shipped) -> list[str]:
    origin = origin_of(source.base, source.base_ref)
    base = f" {'Tuned from' if source.adapter else 'Made of'} {code(origin.reference)}." if origin.reference else ""
    size = human_size(shipped.size)
    return [f"# {plain(source.name)}", "", f"{code(shipped.file)}: {shipped.what}, as GGUF, {size}.{base}", ""]


def _section(title: str, commands: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"    {line}".rstrip() for line in commands), ""]


def _ollama(source: ExportSource, shipped: Shipped) -> list[str]:
    if shipped.no_modelfile:
        why = f"There is no Modelfile: {plain(shipped.no_modelfile)}. Without one, Ollama guesses a template."
        return ["## Ollama", "", why, ""]
    name = ollama_name(source.name)
    return _section("Ollama", [f"ollama create {name} -f Modelfile", f"ollama run {name}"])


def ollama_name(name: str) -> str:
    """A name that `ollama create` takes."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "tuned"


def _python(file: str, lora: str | None = None, system: str | None = None) -> list[str]:
    more = f", lora_path={json.dumps(lora)}" if lora else ""
    return [
        "from llama_cpp import Llama",
        "",
        f"model = Llama({json.dumps(file)}{more}, n_ctx=0, verbose=False)",
        *([f'messages = [{{"role": "system", "content": {as_json(system)}}}]'] if system else ["messages = []"]),
        'messages.append({"role": "user", "content": "Hello"})',
        "answer = model.create_chat_completion(messages, temperature=0)",
        'print(answer["choices"][0]["message"]["content"])',
    ]


__all__ = ["Origin", "Shipped", "base_name", "lineage", "lora_readme", "ollama_name", "readme"]
