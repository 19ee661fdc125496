"""Answers side by side, and the rows that got worse: what a reader looks at after the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.report.facts import BASE, TUNED, VERIFY, Artifacts, rows_of

Row = Mapping[str, Any]
WORST = 10
WORST_PER_FILE = 5


def side_by_side(artifacts: Artifacts, count: int) -> list[dict[str, Any]]:
    """`count` rows of the first suite, spread evenly: {"suite", "id", "prompt", "expected", "answers"}; an answer is
    {"who", "answer", "score"} of base, tuned and each file that was asked."""
    speakers = _speakers(artifacts)
    if not speakers or not count:
        return []
    first = next(iter(speakers.values()))
    suite = next(iter(first))[0]
    rows = [row for key, row in first.items() if key[0] == suite]
    chosen = [rows[i * len(rows) // min(count, len(rows))] for i in range(min(count, len(rows)))]
    return [
        _sample(row, [(who, known.get((row["suite"], row["id"]))) for who, known in speakers.items()]) for row in chosen
    ]


def regressions(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Rows that tuned answers worse than base, the worst first; then those that a file answers worse than tuned."""
    speakers = _speakers(artifacts)
    found = _worse(speakers, "base", "tuned", WORST)
    for who in speakers:
        if who not in ("base", "tuned"):
            found += _worse(speakers, "tuned", who, WORST_PER_FILE)
    return found


def _speakers(artifacts: Artifacts) -> dict[str, dict[tuple[str, str], Row]]:
    """base, tuned and each file: their rows by (suite, id)."""
    named = {"base": artifacts.get(BASE), "tuned": artifacts.get(TUNED)}
    named |= {name.removeprefix(VERIFY): found for name, found in artifacts.items() if name.startswith(VERIFY)}
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for who, artifact in named.items():
        rows = rows_of(artifact)
        if rows:
            found[who] = {(row["suite"], row["id"]): row for row in rows}
    return found


def _worse(speakers: Mapping[str, Mapping[Any, Row]], before: str, after: str, most: int) -> list[dict[str, Any]]:
    first, second = speakers.get(before, {}), speakers.get(after, {})
    drops = []
    for place, (key, row) in enumerate(second.items()):
        if key in first and (drop := _score(first[key]) - _score(row)) > 0:
            rise = _per_token(row) - _per_token(first[key])
            drops.append((-drop, -rise, place, key))
    return [
        {"before": before, "after": after, **_sample(second[key], [(before, first[key]), (after, second[key])])}
        for *_, key in sorted(drops)[:most]
    ]


def _per_token(row: Row) -> float:
    """Nats per token of the expected answer; 0 for a row that has no loss."""
    return float(row["loss"] or 0.0) / max(row["tokens"] or 0, 1)


def _score(row: Row) -> float:
    """The suite's first metric."""
    return float(next(iter(row["scores"].values()), 0.0))


def _sample(row: Row, answers: Sequence[tuple[str, Row | None]]) -> dict[str, Any]:
    return {
        "suite": row["suite"],
        "group": row["group"],
        "id": row["id"],
        "prompt": row["prompt"],
        "expected": row["expected"],
        "answers": [
            {"who": who, "answer": said["answer"], "score": _score(said), "stopped": said["stopped"]}
            for who, said in answers
            if said is not None
        ],
    }
