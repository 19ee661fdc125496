"""The range test: on a quadratic whose point of divergence is known, on curves that suggest nothing, on a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.errors import InputError
from edgeft.progress import Progress
from edgeft.training.arguments import Settings
from edgeft.training.lr_find import Sweep, check, find, read_off, smoothed
from edgeft.training.opened import Job


def descended(curvature: float, steps: int = 100) -> Sweep:
    """Gradient descent on `curvature * (x - noise)^2 / 2 + 1`, which diverges above the rate 2 / curvature."""
    random = np.random.default_rng(0)
    sweep = Sweep(1e-5, 10.0, steps)
    x = 2.0
    for step in range(steps):
        loss = curvature * x * x / 2 + 1
        if sweep.told(step + 1, loss):
            break
        x -= sweep.rate(step) * curvature * (x - 0.01 * random.standard_normal())
    return sweep


@pytest.mark.parametrize("curvature", [0.7, 3.0, 40.0])
def test_a_quadratic_diverges_where_it_must(curvature: float) -> None:
    edge = 2 / curvature
    found = read_off(descended(curvature))
    assert found.diverged is not None
    assert found.lowest is not None
    assert found.steepest is not None
    assert edge < found.diverged < 8 * edge  # it takes some steps to climb out of the valley
    assert found.steepest < found.lowest < 2 * edge
    assert found.most == pytest.approx(found.lowest / 10)
    assert found.points[0].rate == pytest.approx(1e-5)
    ratios = [after.rate / before.rate for before, after in zip(found.points, found.points[1:], strict=False)]
    assert max(ratios) == pytest.approx(min(ratios))


def test_a_loss_that_is_no_number_ends_it_and_is_not_drawn() -> None:
    sweep = Sweep(1e-4, 1.0, 20)
    assert [sweep.told(step, loss) for step, loss in enumerate([3.0, 2.0, math.nan], 1)] == [False, False, True]
    found = read_off(sweep)
    assert [point.loss for point in found.points] == [3.0, 2.0]
    assert found.diverged == pytest.approx(sweep.rate(2))


def test_one_hard_batch_does_not_end_it() -> None:
    sweep = Sweep(1e-4, 1.0, 60)
    assert not any(sweep.told(step, loss) for step, loss in enumerate([2.0] * 10 + [15.0] + [2.0] * 10, 1))
    assert any(sweep.told(step, loss) for step, loss in enumerate([15.0] * 10, 22))


@pytest.mark.parametrize("losses", [[2.0] * 30, [2.0 + step / 10 for step in range(30)]])
def test_a_curve_that_falls_nowhere_suggests_nothing(losses: list[float]) -> None:
    sweep = Sweep(1e-4, 1.0, 30)
    for step, loss in enumerate(losses, 1):
        sweep.told(step, loss)
    found = read_off(sweep)
    assert (found.steepest, found.lowest, found.most) == (None, None, None)
    assert len(found.points) == 30


def test_smoothing_moves_nothing_along_the_curve() -> None:
    valley = [abs(i - 40) / 10 for i in range(100)]
    assert min(range(100), key=lambda i: smoothed(valley)[i]) == 40
    assert smoothed([3.0] * 7) == pytest.approx([3.0] * 7)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="grpo's stays around 0 whatever is learnt"):
        check("grpo", 1e-6, 1.0, 100)
    for low, high, steps in ((1.0, 0.1, 100), (0.0, 1.0, 100), (1e-6, 1.0, 5)):
        with pytest.raises(InputError, match="two rates, the lower one first, and 10 steps at least"):
            check("sft", low, high, steps)


def test_a_tiny_model(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """The rates reach the optimizer, the loss falls and then diverges, and nothing is left behind."""
    settings: dict[str, Any] = {"lora_r": 4, "lora_alpha": 8, "micro_batch_size": 4, "threads": 1}
    more = {"early_stopping_patience": 2, "keep_best": True, "sample_answers": 1, "max_steps": 3, "save_steps": 1}
    for name in ("folder", "scratch"):
        (tmp_path / name).mkdir()
    told: list[Progress] = []
    job = Job(
        tiny_llama, "tiny", tiny_dataset, tmp_path / "folder", tmp_path / "scratch", Settings(**settings, **more),
        listen=told.append,
    )  # fmt: skip
    state = torch.random.get_rng_state()
    found = find(job, low=1e-4, high=1e30, steps=30)
    assert found.lowest is not None
    assert found.steepest is not None
    assert found.diverged is not None
    assert 1e-4 < found.steepest <= found.lowest < found.diverged < 1e30
    assert len(told) == len(found.points) + 1 < 30
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert torch.equal(torch.random.get_rng_state(), state)
    again = find(job, low=1e-4, high=1e30, steps=30)
    assert again == found
