"""The report for a pull request or a model card: verdict, before and after, files. GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.report import words

_ACTIVE = str.maketrans(
    {character: f"\\{character}" for character in r"\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def page(found: Mapping[str, Any]) -> str:
    """Markdown of `facts.gather`'s findings (with "title")."""
    verdict = found["verdict"]
    lines = [f"## {escape(found['title'])}", "", f"**{verdict['state'].upper()}.** {escape(verdict['sentence'])}", ""]
    lines += [f"- {escape(line)}" for line in verdict["why"]]
    lines += _suites(found["suites"])
    lines += _files(found["files"])
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """A text that Markdown and HTML leave alone, on one line."""
    return " ".join(words.visible(text).translate(_ACTIVE).split())


def _suites(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not entries:
        return
    yield from ("", "| suite | metric | rows | base | tuned |", "|---|---|--:|--:|--:|")
    for entry in entries:
        name = f"{entry['suite']}/{entry['group']}" if entry["group"] else entry["suite"]
        sides = [entry["base"], entry["tuned"]]
        values = " | ".join(_measured(entry["metric"], side) for side in sides)
        rows = next(side["n"] for side in sides if side)
        yield f"| {escape(name)} | {escape(entry['metric'])} | {rows} | {values} |"


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
