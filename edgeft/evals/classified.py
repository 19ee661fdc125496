"""Suites of the kind `classification`: which label a classifier gives a text, and how sure it is. Called by
`edgeft.evals.evaluate`; `by_label` by the report.

A row's loss is that of its one answer: the nats of the expected label's probability, so `loss` of the suite is the mean
cross entropy. The family of a row that names none is its label, so `SUITE/LABEL.accuracy` is the recall of that label.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.errors import DataError, InputError, ModelError
from edgeft.evals import metrics as metric_table
from edgeft.evals.encoded import Steps, rounded
from edgeft.evals.questions import Case
from edgeft.evals.suites import Suite
from edgeft.runtimes.classifier import Classifier

KIND = "classification"
_LEAST = 1e-30  # a probability of zero has no logarithm, and Parquet's readers no infinity


def fits(runtime: Any, suite: Suite) -> None:
    """An `InputError` when the suite asks for labels and the runtime writes answers, or the other way round."""
    labelled = hasattr(runtime, "classify")
    if labelled and (suite.task or suite.kind != KIND):
        raise InputError(
            f"{runtime.name} has a classification head and writes no answers, which the suite {suite.name!r} asks for",
            do=f"ask it for labels: kind: {KIND}",
        )
    if not labelled and not suite.task and suite.kind == KIND:
        raise InputError(
            f"{runtime.name} has no classification head, and the suite {suite.name!r} asks for labels",
            do="ask for an answer (kind: generation, the metric accuracy), or for the likeliest choice (kind: choice)",
        )


def ask(classifier: Classifier, suite: Suite, steps: Steps, timing: dict[str, float]) -> list[dict[str, Any]]:
    """The rows of a suite, classified and scored. A `DataError` for a label that the head does not have."""
    unknown = sorted({case.expected for case in suite.cases} - set(classifier.labels))
    if unknown:
        raise DataError(
            f"the suite {suite.name!r} expects the label {unknown[0]!r}, which {classifier.name} does not have",
            do=f"it has {', '.join(classifier.labels)}",
        )
    started = time.perf_counter()
    asked = [question(case) for case in suite.cases]
    encoded = [classifier.encode(row) for row in asked]
    try:
        found = classifier.classify(
            encoded if all(encoded) else asked,
            on_done=lambda count: steps.go(count, f"{suite.name}: labels"),
        )
    except ModelError as error:
        raise ModelError(f"the suite {suite.name!r}: {error.what}", where=error.where, do=error.do) from None
    timing["loss_seconds"] += time.perf_counter() - started
    timing["scored_tokens"] += sum(len(ids) for ids in encoded)
    scorers = {name: metric_table.scorer(name, suite.settings) for name in suite.metrics}
    rows = []
    for case, shares in zip(suite.cases, found.tolist(), strict=True):
        row = _row(suite, case, classifier.labels, shares)
        row["scores"] = {name: rounded(score(row)) for name, score in scorers.items()}
        rows.append(row)
    return rows


def question(case: Case) -> Any:
    """What a classifier is given of a case: the text, or the conversation."""
    return case.messages[0]["content"] if _is_text(case) else list(case.messages)


def _is_text(case: Case) -> bool:
    return len(case.messages) == 1 and not case.messages[0]["role"]


def _row(suite: Suite, case: Case, labels: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    logs = [math.log(max(share, _LEAST)) for share in shares]
    best = max(range(len(labels)), key=lambda i: shares[i])  # the first of equals
    gold = labels.index(case.expected)
    return {
        "suite": suite.name,
        "id": case.id,
        "group": case.group or case.expected,
        "kind": KIND,
        "prompt": [dict(turn) for turn in case.messages],
        "rendered": case.messages[0]["content"] if _is_text(case) else "",
        "expected": case.expected,
        "answer": labels[best],
        "stopped": True,
        "loss": rounded(-logs[gold]),
        "tokens": 1,
        "choices": [
            {"text": label, "logprob": rounded(log), "tokens": 1, "bytes": len(label.encode("utf-8", "surrogatepass"))}
            for label, log in zip(labels, logs, strict=True)
        ],
    }


def by_label(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the rows of one suite: {"labels": [{"label", "rows", "given", "precision", "recall", "f1"}], "confusion":
    [[rows expected i and given j]]}, labels in the order of the head. Figures without any row are None."""
    from sklearn.metrics import confusion_matrix

    labels = [choice["text"] for choice in rows[0]["choices"]]
    expected, given = ([row[key] for row in rows] for key in ("expected", "answer"))
    table = confusion_matrix(expected, given, labels=labels).tolist()
    found = []
    for number, label in enumerate(labels):
        right, wanted = table[number][number], sum(table[number])
        said = sum(line[number] for line in table)
        found.append(
            {
                "label": label,
                "rows": wanted,
                "given": said,
                "precision": _share(right, said),
                "recall": _share(right, wanted),
                "f1": _share(2 * right, said + wanted),
            }
        )
    return {"labels": found, "confusion": table}


def _share(part: int, whole: int) -> float | None:
    return rounded(part / whole) if whole else None


def latency(classifier: Classifier, suites: Sequence[Suite], count: int, most: float) -> list[float]:
    """Seconds that single rows take, one after the other, until `most` seconds have passed."""
    seconds: list[float] = []
    rows = [question(case) for suite in suites if suite.kind == KIND for case in suite.cases]
    for row in rows[:count]:
        started = time.perf_counter()
        classifier.classify([row])
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > most:
            break
    return seconds
