"""What two runs hold, side by side: which rows of the data came, went or changed, and every metric of each evaluation,
with a paired test where both answered the same rows. Called by `edgeft runs diff`; reads artifacts, writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.errors import DataError

Artifacts = Mapping[str, Artifact]
_SHOWN = 5  # ids of changed rows that are named


def data_changes(a: Artifact | None, b: Artifact | None) -> dict[str, dict[str, Any]]:
    """{split: {"rows": [before, after], "added", "removed", "changed", "examples"}} of two dataset artifacts.

    A row is its content (the digest of its messages): one that only moved to another line is the same row. A row is
    changed when its id is in both and its content is not.
    """
    if a is None or b is None:
        return {}
    found = {}
    for split in ("train", "validation", "test"):
        before, after = _rows(a, split), _rows(b, split)
        if not before and not after:
            continue
        old, new = set(before.values()), set(after.values())
        gone = [name for name, digest in before.items() if digest not in new]
        come = [name for name, digest in after.items() if digest not in old]
        changed = [name for name in come if name in set(gone)]
        found[split] = {
            "rows": [len(before), len(after)],
            "added": len(come) - len(changed),
            "removed": len(gone) - len(changed),
            "changed": len(changed),
            "examples": list(dict.fromkeys([*changed, *come, *gone]))[:_SHOWN],
        }
    return found


def _rows(dataset: Artifact, split: str) -> dict[str, str]:
    path = dataset.path / f"{split}.jsonl"
    if not path.is_file():
        return {}
    return {
        str(row.get("id")): files.digest_text(
            files.canonical_json({key: value for key, value in row.items() if key != "id"})
        )
        for row in files.read_jsonl(path)
    }


def metric_changes(a: Artifacts, b: Artifacts) -> list[dict[str, Any]]:
    """One entry per target, suite and metric that either run has: {"target", "suite", "metric", "a", "b", "change"}; a
    and b are {"value", "n", "low", "high"} or None, `change` is {"value", "n", "low", "high", "p_value"}, or None when
    the rows do not pair."""
    from edgeft.report.facts import read

    found = []
    for target in dict.fromkeys([*a, *b]):
        first, second = (read(side.get(target), "summary.json") or {} for side in (a, b))
        paired = _paired(a.get(target), b.get(target)) if first and second else {}
        for suite in dict.fromkeys([*first, *second]):
            for metric in dict.fromkeys([*first.get(suite, {}), *second.get(suite, {})]):
                sides = {name: side.get(suite, {}).get(metric) for name, side in (("a", first), ("b", second))}
                change = paired.get((suite, metric))
                found.append({"target": target, "suite": suite, "metric": metric, **sides, "change": change})
    return found


def _paired(a: Artifact | None, b: Artifact | None) -> dict[tuple[str, str], dict[str, Any]]:
    from edgeft.evals import scores
    from edgeft.report.facts import rows_of
    from edgeft.stages.report import paired_changes

    before, after = rows_of(a), rows_of(b)
    known = scores.suite_names(after)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in scores.suite_names(before):
        if name not in known:
            continue
        sides = scores.of_suite(before, name), scores.of_suite(after, name)
        try:
            changes = paired_changes(*sides, name)
        except DataError:  # not the same rows: there is nothing to pair
            continue
        found |= {
            (name, entry["metric"]): {key: entry[key] for key in ("value", "n", "low", "high", "p_value")}
            for entry in changes
        }
    return found
