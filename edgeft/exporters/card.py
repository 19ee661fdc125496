"""What the model card (README.md) of every exported folder has in common: the YAML that hubs read, what training says
of itself, and text made harmless. Called by the cards of the formats.

Names that come from outside (the base's card, folder names) are escaped for the place they stand in; where a local
folder lies on this machine stays on this machine. Figures of evaluations are not here: a file is judged after it is
written; `edgeft.report.cards` adds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeft.exporters import ExportSource
from edgeft.models import origin
from edgeft.models.identity import read_training
from edgeft.models.origin import as_json as as_json
from edgeft.models.origin import dataset_names, one_line, origin_of
from edgeft.models.origin import plain as plain


def front_matter(
    source: ExportSource,
    relation: str,
    tags: Sequence[str],
    library: str | None = None,
    task: str = "text-generation",
) -> Iterator[str]:
    """The YAML block (see `edgeft.models.origin`) of what is exported."""
    found = origin_of(source.base, source.base_ref)
    return origin.front_matter(found, relation, datasets=datasets(source), tags=tags, task=task, library=library)


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
    return dataset_names(training)


def code(text: str) -> str:
    """Inline code: one line, and no mark that would end it."""
    return f"`{one_line(text).replace('`', '')}`"
