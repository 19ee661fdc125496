"""Where a base model comes from, as far as its folder tells: its name on the hub, its licence, its languages; and the
YAML block of model cards that says so.

What a folder holds was downloaded: nothing in it is trusted to be short, plain or well-formed. Called by the model
cards of adapters and of exported folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.models import grown
from edgeft.models.base import reference_of

_MOST = 1 << 18  # bytes of a README or LICENSE that are looked at
_WORD = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
_HUB_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
# How a licence's text begins -> the hub's name of it; the first that fits.
_LICENCES = (
    (r"Apache License\s+Version 2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
    (r"Llama 3\.3 Community", "llama3.3"),
    (r"Llama 3\.2 Community", "llama3.2"),
    (r"Llama 3\.1 Community", "llama3.1"),
    (r"(Meta )?Llama 3 Community", "llama3"),
    (r"Llama 2 Community", "llama2"),
    (r"Gemma Terms of Use", "gemma"),
    (r"BSD 3-Clause", "bsd-3-clause"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3", "agpl-3.0"),
    (r"GNU GENERAL PUBLIC LICENSE\s+Version 3", "gpl-3.0"),
)


@dataclass(frozen=True)
class Origin:
    """`reference`: how others would name the base (builtin:NAME, ORG/NAME, a folder's name; empty when unknown).
    `name` without the organization; `short` without "builtin:"."""

    reference: str
    name: str
    short: str
    organization: str = ""
    license: str = ""
    languages: tuple[str, ...] = ()


def origin_of(base: Path, base_ref: str) -> Origin:
    """The origin of a base in a folder, `base_ref` being what it was asked for by. Reads its README.md and LICENSE."""
    reference = _public(base, base_ref)
    organization, _, name = reference.rpartition("/")
    front = _front_matter(base / "README.md")
    return Origin(
        reference=reference,
        name=name,
        short=name.removeprefix("builtin:") or "model",
        organization=organization,
        license=_license(base, front),
        languages=_words(front.get("language")),
    )


def front_matter(
    origin: Origin, relation: str, *, datasets: Sequence[str], tags: Sequence[str], task: str, library: str | None
) -> Iterator[str]:
    """The lines of a model card's YAML block, which hubs read. Every value is a JSON text, which YAML reads as what it
    says.

    relation  what is described is to its base, as hubs name it: finetune, quantized, adapter
    library   what opens it, as hubs name it; left out when the files alone say so
    """
    yield "---"
    if origin.organization:
        yield f"base_model: {as_json(f'{origin.organization}/{origin.name}')}"
        yield f"base_model_relation: {relation}"
    if origin.license:
        yield f"license: {as_json(origin.license)}"
    if origin.languages:
        yield f"language: {as_json(list(origin.languages))}"
    if datasets:
        yield f"datasets: {as_json(list(datasets))}"
    if library:
        yield f"library_name: {library}"
    yield f"pipeline_tag: {task}"
    yield f"tags: {as_json(list(tags))}"
    yield "---"
    yield ""


def dataset_names(training: Mapping[str, Any]) -> list[str]:
    """Names of the datasets that training.json tells; of a path only its last part."""
    told = training.get("datasets")
    names = [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
    return [Path(name).name if Path(name).suffix or Path(name).is_absolute() else name for name in names]


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Text without Markdown or HTML in it, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:200]


def _public(base: Path, base_ref: str) -> str:
    """The reference without anything about this machine: the hub's name only for what lies in the hub's cache."""
    base_ref = grown.split(base_ref)[0]
    if base_ref.startswith("builtin:"):
        return base_ref
    known = grown.split(reference_of(base))[0]
    parts = known.split("/")
    if known.startswith("builtin:"):
        return known
    if len(parts) == 2 and all(_HUB_PART.match(part) for part in parts):
        return known
    return Path(base_ref.partition("@")[0].rstrip("/\\").replace("\\", "/")).name or ("" if not base_ref else base.name)


def _front_matter(path: Path) -> Mapping[str, Any]:
    """The YAML at the top of a model card; nothing when there is none, or it is not plain."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    text = _beginning(path)
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if match is None or re.search(r"(^|[\s\[,{:-])[&*!]\S", match[1]):  # no anchors, aliases, tags
        return {}
    try:
        found = YAML(typ="safe", pure=True).load(match[1])
    except (YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _license(base: Path, front: Mapping[str, Any]) -> str:
    told = front.get("license")
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if told == "other":
        told = front.get("license_name")
    if isinstance(told, str) and _WORD.match(told):
        return told.lower()
    for path in sorted(base.glob("LICENSE*")):
        text = _beginning(path)[:4000]
        for pattern, name in _LICENCES:
            if re.search(pattern, text, re.IGNORECASE):
                return name
    return ""


def _words(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str) and _WORD.match(item))[:64]


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""
