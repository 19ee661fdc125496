"""Which rows go together: each once an epoch, drawn at random, with little padding."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.training.batches import evaluation_batches
from tests.training.made import plan


def test_each_epoch_sees_each_row_once() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(5, 90, 403)]
    made = plan(lengths, epochs=3)
    assert made.epoch_ends == (101, 202, 303)
    for start in (0, 101, 202):
        rows = [i for batch in made.batches[start : start + 101] for sequence in batch for i in sequence]
        assert sorted(rows) == list(range(403))
    assert made.batches[:101] != made.batches[101:202]
    assert plan(lengths, epochs=3) == made
    assert plan(lengths, epochs=3, seed=2) != made


@pytest.mark.parametrize("packed", [None, 256])
def test_rows_of_a_step_are_random(packed: int | None) -> None:
    """Rows of like length in a step are alike in more, and what is learnt from them is worse: the mean length of a
    step's rows spreads as that of rows drawn at random (a quarter of the rows' own deviation, for 16 of them)."""
    lengths = [int(n) for n in np.random.default_rng(0).integers(5, 90, 4000)]
    made = plan(lengths, epochs=1, accumulation=4 if packed is None else 1, pack_into=packed)
    steps = [made.batches[at : at + made.accumulation] for at in range(0, len(made.batches), made.accumulation)]
    rows = [[lengths[i] for batch in step for sequence in batch for i in sequence] for step in steps]
    means = [float(np.mean(step)) for step in rows[:-1]]
    expected = float(np.std(lengths)) / float(np.mean([len(step) for step in rows[:-1]])) ** 0.5
    assert 0.8 * expected < float(np.std(means)) < 1.25 * expected


def test_rows_of_a_micro_batch_are_about_as_long() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(5, 90, 403)]
    made = plan(lengths, epochs=1, accumulation=10)
    padded = sum(len(b) * max(lengths[i] for (i,) in b) for b in made.batches)
    assert padded < 1.15 * sum(lengths)


def test_steps_epochs_and_accumulation() -> None:
    made = plan([10] * 20, accumulation=2, epochs=1.5)
    assert (len(made.batches), made.steps, made.epoch_steps) == (8, 4, (3, 4))
    assert plan([10] * 20, max_steps=7, accumulation=2).steps == 7
    assert len(plan([10] * 20, max_steps=7, accumulation=2).batches) == 14


def test_evaluation_batches_keep_to_the_tokens() -> None:
    lengths = [30, 10, 20, 100, 5]
    batches = evaluation_batches(lengths, 60)
    assert [i for batch in batches for (i,) in batch] == [3, 0, 2, 1, 4]
    assert [len(batch) for batch in batches] == [1, 2, 2]
    assert evaluation_batches([], 60) == []
