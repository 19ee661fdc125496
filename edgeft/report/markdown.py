"""The report for a pull request or a model card: verdict, before and after, files. GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.report import words
from edgeft.report.facts import skills

_MOST = 160  # characters of a text in a table
_ACTIVE = str.maketrans(
    {character: f"\\{character}" for character in r"\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def page(found: Mapping[str, Any]) -> str:
    """Markdown of `facts.gather`'s findings (with "title")."""
    verdict = found["verdict"]
    lines = [f"## {escape(found['title'])}", "", f"**{verdict['state'].upper()}.** {escape(verdict['sentence'])}", ""]
    lines += [f"- {escape(line)}" for line in [*verdict["why"], *found.get("notes", ())]]
    lines += _gates(found["checks"])
    changes = {(entry["suite"], entry["metric"]): entry for entry in found.get("changes", ())}
    whole = [entry for entry in found["suites"] if not entry["group"]]
    lines += _suites(whole, changes)
    for one in found["labels"]:
        lines += _labels(one)
    lines += _files(found["files"])
    lines += _folded("Skill by skill", list(_suites(skills(found["suites"], found["labels"]), changes)))
    rows = found.get("regressions") or []
    lines += _folded(words.count(len(rows), "worst regression"), list(_regressions(rows)))
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """A text that Markdown and HTML leave alone, on one line."""
    return " ".join(words.visible(text).translate(_ACTIVE).split())


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return ["", "<details>", f"<summary>{escape(title)}</summary>", *lines, "", "</details>"]


def _gates(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not checks:
        return
    yield from ("", "| gate | | found |", "|---|---|---|")
    for check in checks:
        word = "passed" if check["passed"] else "**failed**"
        word += ", undecided" if check["status"] == "undecided" else ""
        yield f"| {escape(check['gate'])} | {word} | {escape(check['detail'])} |"


def _suites(
    entries: Sequence[Mapping[str, Any]], changes: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Iterator[str]:
    if not entries:
        return
    yield from ("", "| suite | metric | rows | base | tuned | change, paired |", "|---|---|--:|--:|--:|--:|")
    for entry in entries:
        name = f"{entry['suite']}/{entry['group']}" if entry["group"] else entry["suite"]
        sides = [entry["base"], entry["tuned"]]
        values = " | ".join(_measured(entry["metric"], side) for side in sides)
        rows = next(side["n"] for side in sides if side)
        change = changes.get((name, entry["metric"]))
        shown = words.NONE
        if change:
            span = words.interval(entry["metric"], change)
            shown = words.change(entry["metric"], change["value"]) + (f" ({span})" if span else "")
        yield f"| {escape(name)} | {escape(entry['metric'])} | {rows} | {values} | {shown} |"


def _labels(found: Mapping[str, Any]) -> Iterator[str]:
    """Of the tuned model: each label's figures, and what was given in its place."""
    names = [escape(one["label"]) for one in found["labels"]]
    yield from ("", f"| {escape(found['suite'])} | rows | precision | recall | F1 | given: {' | '.join(names)} |")
    yield f"|---|{'--:|' * (4 + len(names))}"
    for one, name, line in zip(found["labels"], names, found["confusion"], strict=True):
        shares = [words.percent(one[key]) for key in ("precision", "recall", "f1")]
        yield f"| {' | '.join([name, str(one['rows']), *shares, *map(str, line)])} |"


def _regressions(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield from ("", "| from → to | row | asked | before | after | expected |", "|---|---|---|---|---|---|")
    for row in rows:
        asked = row["prompt"][-1]["content"] if row["prompt"] else ""
        answers = [said["answer"] for said in row["answers"]]
        cells = [f"{row['before']} → {row['after']}", row["id"], asked, *answers, row["expected"]]
        yield f"| {' | '.join(escape(_cut(cell)) for cell in cells)} |"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def _measured(metric: str, side: Mapping[str, Any] | None) -> str:
    if side is None:
        return words.NONE
    span = words.interval(metric, side)
    return words.figure(metric, side["value"]) + (f" ({span})" if span else "")


def _files(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not entries:
        return
    yield ""
    yield "| file | size | token ids equal | rendering equal | top-1 | mean KL | score | |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|"
    for entry in entries:
        every, score = entry["all"] or {}, entry["score"] or {}
        cells = [
            escape(entry["name"]),
            words.size(entry["size"]),
            words.percent(entry["ids_equal"]),
            words.percent(entry["rendering_equal"]),
            words.percent(every.get("top1_agreement"), 2),
            words.small(every.get("mean_kl")),
            words.percent(score.get("value")),
            {True: "passed", False: "**failed**", None: "open"}[entry["passed"]],
        ]
        yield f"| {' | '.join(cells)} |"
