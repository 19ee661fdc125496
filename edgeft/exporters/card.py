"""What the model card (README.md) of every exported folder has in common: the YAML that hubs read, what training says
of itself, and text made harmless. Called by the cards of the formats.

Names that come from outside (the base's card, folder names) are escaped for the place they stand in; where a local
folder lies on this machine stays on this machine. Figures of evaluations are not here: a file is judged after it is
written; `edgeft.report.cards` adds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeft.exporters import ExportSource
from edgeft.exporters.origin import origin_of
from edgeft.models.identity import read_training


def front_matter(
    source: ExportSource,
    relation: str,
    tags: Sequence[str],
    library: str | None = None,
    pipeline: str = "text-generation",
) -> Iterator[str]:
    """The lines of the YAML block. Every value is a JSON text, which YAML reads as what it says.

    relation  what the file is to its base, as hubs name it: finetune, quantized, adapter
    library   what opens it, as hubs name it; left out when the files alone say so
    pipeline  what it does, as hubs name it
    """
    origin = origin_of(source)
    yield "---"
    if origin.organization:
        yield f"base_model: {as_json(f'{origin.organization}/{origin.name}')}"
        yield f"base_model_relation: {relation}"
    if origin.license:
        yield f"license: {as_json(origin.license)}"
    if origin.languages:
        yield f"language: {as_json(list(origin.languages))}"
    if named := datasets(source):
        yield f"datasets: {as_json(named)}"
    if library:
        yield f"library_name: {library}"
    yield f"pipeline_tag: {pipeline}"
    yield f"tags: {as_json(list(tags))}"
    yield "---"
    yield ""


def relation_of(source: ExportSource, *, quantized: bool) -> str:
    """What a whole model's file is to its base."""
    return "quantized" if source.adapter is None and quantized else "finetune"


def trained(source: ExportSource) -> Iterator[str]:
    """What training.json says of the training, as a table."""
    training = (read_training(source.adapter) if source.adapter else None) or {}
    settings, data = (training.get(key) if isinstance(training.get(key), dict) else {} for key in ("settings", "data"))
    how = training.get("quantization")
    rows = [
        ("datasets", ", ".join(datasets(source))),
        ("rows", data.get("rows")),
        ("trained tokens", data.get("trained_tokens")),
        ("steps", training.get("steps")),
        ("adapter", settings.get("adapter")),
        ("rank", settings.get("lora_r")),
        ("base in training", how.get("quant_type") if isinstance(how, dict) else None),
        ("adapter folded into", source.folded_into()),
    ]
    known = [(what, value) for what, value in rows if isinstance(value, str | int | float) and value != ""]
    if len(known) < 2:
        return
    yield from ("## Training", "", "| | |", "|---|---|")
    for what, value in known:
        yield f"| {what} | {f'{value:,}' if isinstance(value, int) else plain(str(value))} |"
    yield ""


def datasets(source: ExportSource) -> list[str]:
    """Names of the datasets, when training.json tells them; of a path only its last part."""
    training = (read_training(source.adapter) if source.adapter else None) or {}
    told = training.get("datasets")
    names = [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
    return [Path(name).name if Path(name).suffix or Path(name).is_absolute() else name for name in names]


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def code(text: str) -> str:
    """Inline code: one line, and no mark that would end it."""
    return f"`{one_line(text).replace('`', '')}`"


def plain(text: str) -> str:
    """Text without Markdown or HTML in it, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:200]
