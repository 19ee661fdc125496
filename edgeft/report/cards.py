"""Model cards with the figures in them: what a hub shows of a file, its evaluation included.

An exported folder has its card (README.md) from the moment it is written; how the file answers is known after that,
and a finished artifact never changes. So the report holds a copy of each card, completed with a `model-index` of the
figures that were measured on that very file, to be uploaded in place of the one without. Called by the report's stage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.report import words
from edgeft.report.facts import EXPORT, TUNED, VERIFY, Artifacts, read, trained_target

README = "README.md"
# Names that hubs know -> ours; other metrics keep their own.
_TYPES = {"exact_match": "exact_match", "f1": "f1", "accuracy": "accuracy", "rouge_l": "rouge", "bleu": "bleu"}


def complete(artifacts: Artifacts) -> dict[str, str]:
    """Folder name ("gguf-q8_0", "adapter") -> the card of that folder with its figures. Folders without a card, or
    whose file was not evaluated, are left out."""
    trained = trained_target(artifacts)
    judged = ({trained: TUNED} if trained else {}) | {
        name: VERIFY + name.removeprefix(EXPORT) for name in artifacts if name.startswith(EXPORT)
    }
    found = {}
    for target, judge in judged.items():
        artifact, summary = artifacts.get(target), read(artifacts.get(judge), "summary.json")
        if artifact is None or not summary or not (artifact.path / README).is_file():
            continue
        text = (artifact.path / README).read_text(encoding="utf-8")
        name = "adapter" if target == trained else target.removeprefix(EXPORT)
        found[name] = with_figures(text, _title(text, name), summary)
    return found


def with_figures(card: str, name: str, summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A card with `model-index` in its YAML block (a new block when it has none) and a table of the same figures."""
    front = re.match(r"---\n(.*?)^---\n", card, re.DOTALL | re.MULTILINE)
    head, body = (front[1], card[front.end() :]) if front else ("", card)
    labels = "pipeline_tag: text-classification" in head
    whole = [(suite, metrics) for suite, metrics in summary.items() if "/" not in suite and metrics]
    results = [_result(suite, metrics, labels) for suite, metrics in whole]
    index = json.dumps([{"name": name, "results": results}], ensure_ascii=False)
    line = f"model-index: {index}\n"
    return f"---\n{head}{line}---\n{body.rstrip()}\n\n{_table(summary)}"


def _result(suite: str, metrics: Mapping[str, Mapping[str, Any]], labels: bool) -> dict[str, Any]:
    return {
        "task": {"type": "text-classification" if labels else "text-generation"},
        "dataset": {"name": suite, "type": suite},
        "metrics": [
            {"type": _TYPES.get(metric, metric), "name": metric, "value": entry["value"]}
            for metric, entry in metrics.items()
        ],
    }


def _table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    from edgeft.report.markdown import escape

    lines: list[str] = [
        "## Evaluation",
        "",
        "| suite | metric | value | 95 % interval | rows |",
        "|---|---|--:|--:|--:|",
    ]
    for suite, metrics in summary.items():
        for metric, entry in metrics.items():
            cells: Sequence[str] = (
                escape(suite), escape(metric), words.figure(metric, entry["value"]),
                words.interval(metric, entry) or words.NONE, words.rate(entry["n"]),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _title(card: str, otherwise: str) -> str:
    found = re.search(r"^# (.+)$", card, re.MULTILINE)
    return re.sub(r"\\(.)", r"\1", found[1]).strip() if found else otherwise
