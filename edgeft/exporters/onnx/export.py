"""The door of the ONNX exports: a source that ends in a head for labels is a classifier, any other a decoder.

`export` is the "onnx" row of `edgeft.exporters.EXPORTS`; `check` says beforehand, without reading weights, if it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.onnx import classifier, decoder
from edgeft.models.heads import labels_of
from edgeft.progress import Listener, silent


def check(base: Path, type_name: str, options: Mapping[str, Any] | None = None, *, labels: bool = False) -> None:
    """Raise an `InputError` when this base cannot be exported as this type. `labels`: with a head that will be trained
    on it. Reads JSON only; imports nothing heavy."""
    if labels or labels_of(base) is not None:
        classifier.check(base, type_name, options)
    else:
        decoder.check(base, type_name, options)


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write the folder; see `classifier.export` and `decoder.export`."""
    chosen = classifier if labels_of(source.adapter or source.base) is not None else decoder
    return chosen.export(source, type_name, folder, options, listen)
