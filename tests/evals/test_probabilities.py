"""A classifier's file against the trained head: each way to be another model is told by its own check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgeft.evals import probabilities
from edgeft.evals.fidelity import figures
from edgeft.runtimes.classifier import softmax

LABELS = ("light", "music", "weather")


class Made:
    """A classifier of numbers: the ids of a text are its characters, its logits are drawn from them."""

    context_length, batch_tokens = 40, 1 << 14

    def __init__(
        self, *, name: str = "made", labels: Sequence[str] = LABELS, change: Callable[[Any], Any] | None = None
    ):
        self.name, self.labels = name, tuple(labels)
        self._change = change or (lambda logits: logits)
        self.shift = 0

    def encode(self, row: Any) -> list[int]:
        return self.shortened([ord(character) + self.shift for character in row], text=True)

    def shortened(self, ids: Sequence[int], *, text: bool) -> list[int]:
        return list(ids[: self.context_length])

    def classify(self, rows: Any, *, on_done: Any = None) -> Any:
        drawn = [np.random.default_rng(list(ids)).normal(size=len(self.labels)) * 2 for ids in rows]
        return softmax(self._change(np.array(drawn, np.float32)))

    def close(self) -> None: ...

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None: ...


ROWS = [(f"row {i}", f"text {i}", LABELS[i % 3]) for i in range(60)]


def statuses(candidate: Made, type_name: str = "int8") -> dict[str, bool]:
    found = probabilities.examine(Made(), candidate, ROWS)
    return {check.gate: check.passed for check in probabilities.requirements(found, type_name)}


def test_the_same_model_passes_everything() -> None:
    assert all(statuses(Made()).values())
    found = probabilities.examine(Made(), Made(), ROWS, limit=10)
    assert found["logits"]["all"]["positions"] == 10
    assert found["tokens"]["n"] == 60
    assert figures(found)["furthest_probability"].value == 0.0
    assert figures(found)["mean_kl"].value == 0.0


@pytest.mark.parametrize(
    ("candidate", "fails"),
    [
        (Made(labels=("music", "light", "weather")), "labels equal"),
        (Made(change=lambda logits: logits[:, ::-1]), "the same model"),
        (Made(change=lambda logits: logits * np.nan), "the same model"),
    ],
    ids=["labels", "model", "nan"],
)
def test_what_differs_is_named(candidate: Made, fails: str) -> None:
    found = statuses(candidate)
    assert not found[fails]
    assert found["token ids equal"]


def test_another_tokenizer_is_no_other_model() -> None:
    candidate = Made()
    candidate.shift = 1
    found = statuses(candidate)
    assert not found["token ids equal"]
    assert found["the same model"], "both classify the reference's ids"


def test_figures_are_those_of_scipy() -> None:
    noise = np.random.default_rng(3).normal(size=(60, 3)).astype(np.float32) * 0.5
    candidate = Made(change=lambda logits: logits + noise[: len(logits)])
    found = probabilities.examine(Made(), candidate, ROWS)
    ids = [Made().encode(text) for _, text, _ in ROWS]
    first, second = Made().classify(ids), candidate.classify(ids)
    assert found["logits"]["all"]["mean_kl"] == pytest.approx(stats.entropy(first, second, axis=1).mean(), abs=1e-6)
    assert found["logits"]["all"]["furthest_probability"] == pytest.approx(np.abs(first - second).max(), abs=1e-8)
    assert found["logits"]["all"]["top1_agreement"] == pytest.approx(
        (first.argmax(1) == second.argmax(1)).mean(), abs=1e-8
    )
    expected = np.array([LABELS.index(label) for _, _, label in ROWS])
    right, known = second.argmax(1) == expected, first.argmax(1) == expected
    lost, won = int((known & ~right).sum()), int((right & ~known).sum())
    assert found["right"]["p_value"] == pytest.approx(stats.binomtest(lost, lost + won).pvalue, abs=1e-6)


def test_a_drop_that_is_no_chance_fails() -> None:
    """A file that says one label for everything, of rows whose label the trained model knows."""
    rows = []
    for i in range(200):
        best = int(Made().classify([Made().encode(f"t{i}")])[0].argmax())
        rows.append((f"row {i}", f"t{i}", LABELS[best]))
    candidate = Made(change=lambda logits: logits * 0 + np.array([0.1, 0, 0], np.float32))
    checks = probabilities.requirements(probabilities.examine(Made(), candidate, rows), "int4")
    verdict = {check.gate: check for check in checks}["as often right as the trained model"]
    assert not verdict.passed
    assert "the trained model's: 200" in verdict.detail
