"""The `export` stage: base and adapter to one file or folder that a device runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgeft.artifact import Artifact, Outcome
from edgeft.errors import InputError, ModelError
from edgeft.exporters import EXPORTS, ExportSource
from edgeft.files import read_json
from edgeft.models.heads import labels_of
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.names import ONNX_OF_LABELS, MergeBase
from edgeft.registry import lookup

VERSION = 4
TRAINING = "training.json"
IMATRIX = "imatrix.gguf"
CHOICE = "choice.json"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    format: str = Field(description="gguf or onnx")
    type: str = Field(description="the format's own name of a precision: f16, q8_0, q4_k_m; fp32, int4")
    merge_base: MergeBase = Field("dequantized", description="what the adapter is folded into")
    options: dict[str, bool | int | str | list[tuple[str, str]]] = Field(
        {}, description="the format's own options, as its exporter names them"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="how many compute; default: all cores",
        json_schema_extra={"fingerprint": False},
    )
    quantizer: str | None = Field(
        None,
        description="who quantizes a GGUF file: auto, fast or ggml; the bytes are the same",
        json_schema_extra={"fingerprint": False},
    )


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    export = lookup(EXPORTS, params.format, "export format").load()
    options = {**params.options, **options_of(params.threads, params.quantizer), **imatrix_of(inputs)}
    source = source_of(inputs, params.merge_base)
    if params.format != "onnx":
        refuse_head(source, f"{params.format}-{params.type}")
    done = export(source, params.type, work.folder, options, work.listen)
    for message in (*_warnings(done.facts), *done.measurements.get("quantizer_notes", ())):
        work.warn(message)
    return Outcome(params.format, facts=done.facts, measurements=done.measurements, volatile=tuple(done.volatile))


def refuse_head(source: ExportSource, what: str) -> None:
    """A `ModelError` when the adapter brings a head for labels or rewards: merged checkpoints and GGUF hold language
    models, and the head would be left out in silence or take the place of nothing."""
    labels = labels_of(source.adapter) if source.adapter is not None else None
    if labels is not None:
        ways = "the adapter itself opens in peft"
        ships = f"such a head ships as {', '.join(ONNX_OF_LABELS)}; " if len(labels) > 1 else ""
        raise ModelError(
            f"{what} holds a language model, and this adapter puts a head for labels on it",
            where=source.adapter,
            do=ships + ways,
        )


def imatrix_of(inputs: Inputs) -> dict[str, Path]:
    """The importance matrix, when the export has one: an artifact of the `imatrix` stage, or a file."""
    made = inputs.get("imatrix")
    if made is not None:
        return {"imatrix": made.file(IMATRIX)}
    return {"imatrix": inputs.sources["imatrix"]} if "imatrix" in inputs.sources else {}


def _warnings(facts: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was asked for, said once."""
    if facts.get("left_out"):
        yield f"the file holds the text model; {facts['left_out']} tensors of other parts (images) are left out"
    yield from facts.get("warnings") or ()
    fallbacks = facts.get("fallbacks") or {}
    for meant, got in sorted({(meant, got) for meant, got in fallbacks.values()}):
        names = [name for name, pair in fallbacks.items() if tuple(pair) == (meant, got)]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: the rows do not divide into blocks of {meant}, stored as {got} instead"


def options_of(threads: int | None, quantizer: str | None = None) -> dict[str, Any]:
    """What changes the time of an export and not its bytes."""
    asked = {"threads": threads, "quantizer": quantizer}
    return {key: value for key, value in asked.items() if value is not None}


def source_of(inputs: Inputs, merge_base: str) -> ExportSource:
    """The base with the adapter artifact (when there is one), and what they are called.

    merge_base  "auto": what the input `choice` (an artifact of the stage merge_base) has found
    """
    if merge_base == "auto":
        merge_base = _chosen(inputs.get("choice"))
    adapter = inputs.get("adapter")
    base = inputs.sources["base"]
    ref = _base_ref(adapter) or base.name
    name = ref.removeprefix("builtin:").rstrip("/").rpartition("/")[2].partition("@")[0] or "model"
    return ExportSource(
        base=base,
        adapter=adapter.path if adapter else None,
        merge_base=merge_base,
        name=f"{name}-tuned" if adapter else name,
        base_ref=ref,
    )


def _chosen(choice: Artifact | None) -> str:
    if choice is None:
        raise InputError(
            "merge_base auto is a measurement on validation rows, which only a recipe makes",
            do="write merge: {merge_base: auto} in a recipe, or choose dequantized or pristine",
        )
    chosen = read_json(choice.file(CHOICE)).get("chosen")
    if chosen not in ("dequantized", "pristine"):
        raise ModelError("choice.json names no merge base", where=choice.path)
    return str(chosen)


def _base_ref(adapter: Artifact | None) -> str | None:
    """The base as the recipe named it when the adapter was trained."""
    if adapter is None or not (adapter.path / TRAINING).is_file():
        return None
    base = read_json(adapter.path / TRAINING).get("base")
    ref = base.get("ref") if isinstance(base, dict) else base
    return ref if isinstance(ref, str) else None
