"""What the `eval` stage asks for labels: the trained head, or what there is before one is trained.

A base that has a head for the same labels is asked itself. Any other base has none, and an untrained one would guess at
random: the baseline is what can be said without reading a row, each label by its share of the training rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeft import files
from edgeft.pipeline.stage import Inputs
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import LABELLED

if TYPE_CHECKING:
    from edgeft.runtimes.classifier import Classifier


def asks_labels(suites: Mapping[str, Suite]) -> bool:
    return any(suite.kind == LABELLED and suite.task is None for suite in suites.values())


def open_head(inputs: Inputs) -> Classifier:
    """The trained head when there is an adapter; else the base's own, or the shares of the labels in the data."""
    from edgeft.models.heads import labels_of
    from edgeft.runtimes import open_classifier
    from edgeft.runtimes.classifier import Shares

    base, adapter = inputs.sources["base"], inputs.get("adapter")
    if adapter is not None:
        return open_classifier(base, adapter.path)
    data = inputs["data"]
    labels = tuple(files.read_json(data.file("labels.json")))
    if labels_of(base) == labels:
        return open_classifier(base)
    counts = Counter(row["label"] for row in files.read_jsonl(data.file("train.jsonl")))
    return Shares(labels, [counts[label] for label in labels])
