"""The summary at the end of a run, as text of at most 80 columns. Printed by `edgeft run`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.report import words
from edgeft.report.facts import VERIFY, Artifacts, gather, tokens_per_second

WIDTH = 80
_STATES = {"passed": "PASSED", "failed": "FAILED", "unfinished": "UNFINISHED"}


def summary(artifacts: Artifacts) -> str:
    """Base against tuned, one line per file, gates, the verdict; "" when nothing was judged."""
    found = gather(artifacts)
    if not found["suites"] and not found["files"]:
        return ""
    parts = [
        list(_suites(found["suites"])),
        list(_files(found["files"], artifacts)),
        list(_merge_bases(found["merge_bases"])),
    ]
    parts.append(list(_gates(found["checks"])))
    parts.append(list(_verdict(found["verdict"])))
    return "\n\n".join("\n".join(part) for part in parts if part)


def _suites(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    shown = [entry for entry in entries if not entry["group"]]
    if not shown:
        return
    yield f"{'suite':<16} {'metric':<16} {'base':>9} {'tuned':>9} {'change':>10} {'rows':>6}"
    for entry in shown:
        metric, base, tuned = entry["metric"], entry["base"], entry["tuned"]
        both = base is not None and tuned is not None
        change = words.change(metric, tuned["value"] - base["value"]) if both else words.NONE
        values = [words.figure(metric, side and side["value"]) for side in (base, tuned)]
        rows = (tuned or base)["n"]
        names = f"{_cut(entry['suite'], 16):<16} {_cut(metric, 16):<16}"
        yield f"{names} {values[0]:>9} {values[1]:>9} {change:>10} {rows:>6}"


def _files(entries: Sequence[Mapping[str, Any]], artifacts: Artifacts) -> Iterator[str]:
    if not entries:
        return
    score = next((entry["score"]["suite"] for entry in entries if entry["score"]), "score")
    yield (
        f"{'file':<14} {'size':>9} {'ids':>6} {'render':>6} {'top-1':>7} {'mean KL':>8} "
        f"{_cut(score, 8):>8} {'tok/s':>6}"
    )
    for entry in entries:
        every = entry["all"] or {}
        rate = tokens_per_second(artifacts.get(VERIFY + entry["name"]))
        state = {True: "ok", False: "FAILED", None: "open"}[entry["passed"]]
        yield (
            f"{_cut(entry['name'], 14):<14} {words.size(entry['size']):>9} {_short(entry['ids_equal']):>6} "
            f"{_short(entry['rendering_equal']):>6} {words.percent(every.get('top1_agreement')):>7} "
            f"{words.small(every.get('mean_kl')):>8} {words.percent((entry['score'] or {}).get('value')):>8} "
            f"{words.rate(rate):>6} {state}"
        )


def _merge_bases(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line per thing that ships: the mean KL of both candidates to the trained model, and which was taken."""
    for entry in entries:
        values = {row["name"]: words.small(row["mean_kl"]) for row in entry["candidates"] if row["name"] != "trained"}
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        yield from _wrapped(f"merge base of {entry['export']}: {entry['chosen']} (mean KL: {shown})", "  ")


def _short(share: float | None) -> str:
    return words.percent(share)


def _gates(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for line in lines:
        mark = "ok    " if line["passed"] else "FAILED"
        note = " (undecided)" if line["status"] == "undecided" else ""
        yield from _wrapped(f"{mark} {line['gate']}{note}", "       ")


def _verdict(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrapped(f"{_STATES[verdict['state']]}: {verdict['sentence']}", "  ")
    for line in verdict["why"]:
        yield from _wrapped(f"- {line}", "  ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(words.visible(text), WIDTH, subsequent_indent=indent)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
