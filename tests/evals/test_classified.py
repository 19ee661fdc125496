"""Suites of labels: scored as scikit-learn scores them, gated like any other, refused where they do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import classification_report, f1_score, log_loss

from edgeft.errors import DataError, EdgeftError, InputError, ModelError
from edgeft.evals import classified, gates, scores, suites
from edgeft.evals.evaluate import evaluate, latency
from edgeft.recipe.gates import parse
from tests.evals.fakes import FakeRuntime

LABELS = ("delivery", "praise", "refund")


class FakeClassifier:
    """Gives each text the probabilities of a table; what is not in it, the same to every label."""

    def __init__(self, table: dict[str, Sequence[float]], labels: Sequence[str] = LABELS) -> None:
        self.name, self.labels, self.context_length, self.batch_tokens = "fake", tuple(labels), 64, 1024
        self.table = table
        self.asked: list[Any] = []

    def encode(self, row: Any) -> list[int]:
        return list(str(row).encode())

    def classify(self, rows: Sequence[Any], *, on_done: Callable[[int], None] | None = None) -> Any:
        self.asked += rows
        texts = [bytes(row).decode() if row and isinstance(row[0], int) else str(row) for row in rows]
        if on_done is not None:
            on_done(len(rows))
        even = [1 / len(self.labels)] * len(self.labels)
        return np.asarray([self.table.get(text, even) for text in texts], np.float32)

    def close(self) -> None: ...

    def __enter__(self) -> FakeClassifier:
        return self

    def __exit__(self, *args: Any) -> None: ...


def made(count: int = 60, seed: int = 3) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Rows with labels, and probabilities that are right most of the time."""
    random = np.random.default_rng(seed)
    rows, table = [], {}
    for i in range(count):
        label = LABELS[i % 3]
        shares = random.dirichlet([1.0, 1.0, 1.0])
        if random.random() < 0.6:
            shares[LABELS.index(label)] += 1.0
        rows.append({"id": str(i), "text": f"text {i}", "label": label})
        table[f"text {i}"] = (shares / shares.sum()).tolist()
    return rows, table


def suite(rows: list[dict[str, Any]], *metrics: str) -> suites.Suite:
    return suites.from_rows("task", rows, metrics=metrics or ("accuracy", "macro_f1"), kind="classification")


def test_figures_are_those_of_scikit_learn() -> None:
    rows, table = made()
    found = evaluate(FakeClassifier(table), [suite(rows)])  # type: ignore[arg-type]
    expected = [row["label"] for row in rows]
    given = [LABELS[int(np.argmax(table[row["text"]]))] for row in rows]
    figures = found.summary["task"]
    assert figures["accuracy"]["value"] == pytest.approx(
        np.mean([a == b for a, b in zip(expected, given, strict=True)])
    )
    assert figures["macro_f1"]["value"] == pytest.approx(f1_score(expected, given, average="macro"), abs=1e-6)
    shares = [table[row["text"]] for row in rows]
    assert figures["loss"]["value"] == pytest.approx(log_loss(expected, shares, labels=list(LABELS)), abs=1e-5)
    assert figures["loss"]["low"] < figures["loss"]["value"] < figures["loss"]["high"]
    report = classification_report(expected, given, output_dict=True)
    by_label = classified.by_label(found.rows)
    for one in by_label["labels"]:
        theirs = report[one["label"]]
        assert one["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
        assert one["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
        assert one["f1"] == pytest.approx(theirs["f1-score"], abs=1e-6)
        assert one["rows"] == theirs["support"]
        assert found.summary[f"task/{one['label']}"]["accuracy"]["value"] == pytest.approx(theirs["recall"], abs=1e-6)
        assert "macro_f1" not in found.summary[f"task/{one['label']}"]
    assert np.sum(by_label["confusion"]) == len(rows)
    assert found.timing["scored_tokens"] == sum(len(row["text"]) for row in rows)


def test_rows_say_what_was_seen() -> None:
    turns = [{"role": "user", "content": "where is it?"}]
    rows = [
        {"id": "a", "text": "one", "label": "praise"},
        {"id": "b", "prompt": turns, "label": "refund", "group": "mine"},
        {"id": "c", "text": "two", "label": True},
    ]
    labels = ("praise", "refund", "true")
    classifier = FakeClassifier({"one": [0.2, 0.7, 0.1]}, labels)
    text, conversation, truth = evaluate(classifier, [suite(rows)]).rows  # type: ignore[arg-type]
    assert (text["answer"], text["expected"], text["scores"]) == (
        "refund",
        "praise",
        {"accuracy": 0.0, "macro_f1": 0.0},
    )
    assert text["loss"] == pytest.approx(-math.log(0.2), abs=1e-5)
    assert [choice["text"] for choice in text["choices"]] == list(labels)
    assert (text["group"], text["rendered"], text["prompt"][0]["role"]) == ("praise", "one", "")
    assert (conversation["group"], conversation["prompt"]) == ("mine", turns)
    assert (truth["expected"], truth["answer"]) == ("true", "praise")  # the first of equals


def test_rows_are_kept_and_read_back(tmp_path: Any) -> None:
    rows, table = made(6)
    found = evaluate(FakeClassifier(table), [suite(rows)]).rows  # type: ignore[arg-type]
    scores.write_rows(tmp_path / "rows.parquet", found)
    again = scores.read_rows(tmp_path / "rows.parquet")
    assert classified.by_label(again) == classified.by_label(found)
    assert scores.summarise(again) == scores.summarise(found)


def gate(line: str) -> Any:
    return parse(line, {"task": ("accuracy", "macro_f1", "loss")}, [])


def test_gates_judge_labels() -> None:
    rows, table = made(200)
    tuned = evaluate(FakeClassifier(table), [suite(rows)]).rows  # type: ignore[arg-type]
    base = evaluate(FakeClassifier({}), [suite(rows)]).rows  # type: ignore[arg-type]
    assert gates.judge(gate("task.accuracy >= 0.5"), tuned, None).status == "passed"
    assert gates.judge(gate("task/praise.accuracy >= 0.99"), tuned, None).status == "failed"
    assert gates.judge(gate("task.macro_f1 rise >= 0.1"), tuned, base).passed
    with pytest.raises(InputError, match="'task/praise' has no macro_f1"):
        gates.judge(gate("task/praise.macro_f1 >= 0.5"), tuned, None)


def test_labels_and_answers_do_not_mix() -> None:
    rows, table = made(3)
    written = suites.from_rows(
        "said",
        [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
        metrics=["accuracy"],
    )
    with pytest.raises(InputError, match="fake has a classification head and writes no answers"):
        evaluate(FakeClassifier(table), [suite(rows), written])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fake has no classification head, and the suite 'task' asks for labels"):
        evaluate(FakeRuntime(), [suite(rows)])
    with pytest.raises(InputError, match="of the kind classification, which exact_match does not score"):
        suite(rows, "exact_match")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "a row needs a 'label'"),
        ({"text": "a", "label": 1.5}, "a row needs a 'label'"),
        ({"label": "a"}, "a row needs a question"),
    ],
)
def test_bad_rows_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeftError, match=message):
        suite([row])


def test_what_the_head_cannot_say_is_named() -> None:
    classifier = FakeClassifier({})
    with pytest.raises(DataError, match="expects the label 'spam', which fake does not have"):
        evaluate(classifier, [suite([{"text": "a", "label": "spam"}])])  # type: ignore[arg-type]

    def refuse(rows: Sequence[Any], **_: Any) -> Any:
        raise ModelError("99 tokens do not fit into the context of 64", do="shorten the text")

    classifier.classify = refuse  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="the suite 'task': 99 tokens do not fit"):
        evaluate(classifier, [suite([{"text": "a", "label": "praise"}])])  # type: ignore[arg-type]


def test_what_one_user_waits() -> None:
    rows, table = made(5)
    classifier = FakeClassifier(table)
    waited = latency(classifier, [suite(rows)], 3)  # type: ignore[arg-type]
    assert waited["answers"] == len(waited["seconds"]) == 3
    assert "tokens_per_second" not in waited
    assert classifier.asked == ["text 0", "text 1", "text 2"]
