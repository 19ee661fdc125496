"""What stands right below the verdict: a few figures that a reader takes away, and how each file came to be. Called by
`html` and `markdown`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.report import plots, words


def tiles(found: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """{"label", "value", "note", "state": better | worse | ""}: the first score of each suite (four at most), the
    files, and whether the tune learnt by heart."""
    return [*_scores(tables["suites"]), *_files(found["files"]), *_learning(found)]


def _scores(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["metric"] != words.LOSS:
            first.setdefault(row["suite"], row)
    for suite, row in list(first.items())[:4]:
        metric = row["metric"]
        values = [words.figure(metric, side["value"]) for side in (row["base"], row["tuned"]) if side]
        note = words.count(row["n"], "row")
        if row["change"]:
            doubt = "" if row["direction"] else ", no clear change"
            span = words.interval(metric, row["change"])
            note = f"{words.change(metric, row['change']['value'])} ({span}), {note}{doubt}"
        yield {
            "label": f"{suite}: {metric.replace('_', ' ')}",
            "value": " → ".join(values),
            "note": note,
            "state": row["direction"],
        }


def _files(files: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    judged = [file for file in files if file["passed"] is not None]
    if not judged:
        return
    good = [file for file in judged if file["passed"]]
    whole = [file for file in good if file["size"] and not file["name"].startswith("lora-")]
    note = ""
    if whole:
        least = min(whole, key=lambda file: file["size"])
        score = least["score"]
        note = f"smallest: {least['name']}, {words.size(least['size'])}"
        note += f", {words.figure(score['metric'], score['value'])}" if score else ""
    state = "better" if len(good) == len(judged) else "worse"
    yield {"label": "files verified", "value": f"{len(good)} of {len(judged)}", "note": note, "state": state}


def _learning(found: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    held = [point["eval_loss"] for point in found["curve"] if point.get("eval_loss") is not None]
    if not held:
        return
    risen = plots.overfitted(found["curve"])
    note = "ended at its lowest"
    if risen:
        note = f"rose by {risen['rise']:.3g} after step {risen['from']:g}: overfitting"
    yield {
        "label": "validation loss",
        "value": f"{held[-1]:.3f}",
        "note": note if len(held) > 1 else "measured once, at the end",
        "state": "worse" if risen else "",
    }


def chains(lineage: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How each thing that ships came to be: {"target", "steps": [{"name", "digest", "from": [names]}]}, from the base
    model and the data to the file."""
    known = {entry["target"]: entry for entry in lineage}
    ends = [name for name in known if name == "merge" or name.startswith("export.")]
    found = []
    for end in ends:
        steps: dict[str, dict[str, Any]] = {}
        _walk(end, known, steps)
        found.append({"target": end, "steps": list(steps.values())})
    return found


def _walk(target: str, known: Mapping[str, Mapping[str, Any]], steps: dict[str, dict[str, Any]]) -> None:
    """Depth first, so that everything stands after what it was made of."""
    entry = known[target]
    sources = []
    for role, source in entry["inputs"].items():
        name = source.get("target") or source.get("ref") or role
        sources.append(name)
        if name in steps:
            continue
        if name in known:
            _walk(name, known, steps)
        else:
            steps[name] = {"name": name, "digest": source.get("digest", ""), "from": []}
    steps[target] = {"name": target, "digest": entry["digest"], "from": list(dict.fromkeys(sources))}
