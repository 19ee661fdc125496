"""A learning-rate range test: a short training whose rate rises from step to step, over several powers of ten, until
the loss diverges. Called by `edgeft lr-find`; it leaves nothing behind.

The test is that of Smith (2015, arXiv:1506.01186, section 3.3; 2018, arXiv:1803.09820). Two rates are read off the
smoothed curve: where the loss falls most steeply, and, more cautious, a tenth of where it is lowest (the two that
fastai calls "steep" and "minimum").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeft.errors import InputError
from edgeft.training.opened import Job, opened

_TIMES = 4.0  # the smoothed loss is so many times the lowest one: diverged
_TRAILING = 0.8  # weight of what came before in the average that decides whether to stop
_WIDTH = 0.04  # deviation of the smoothing, of the number of points
_FALL = 0.02  # a curve that falls by less than this share suggests nothing


@dataclass(frozen=True)
class Point:
    """One step: the rate it was taken with, the loss of its batch before it, and the smoothed loss there."""

    step: int
    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Found:
    """The curve, and what it suggests: None where the loss fell nowhere (or, of `diverged`, where it did not)."""

    points: tuple[Point, ...]
    steepest: float | None
    lowest: float | None
    diverged: float | None

    @property
    def most(self) -> float | None:
        """A tenth of the rate with the lowest loss."""
        return None if self.lowest is None else self.lowest / 10


@dataclass
class Sweep:
    """The rates of a test, and the losses that they led to."""

    low: float
    high: float
    steps: int
    losses: list[float] = field(default_factory=list)
    limit: float = math.inf
    diverged: bool = False
    _mean: float = 0.0
    _best: float = math.inf

    def factor(self, step: int) -> float:
        """What the highest rate is multiplied by in a step, counted from 0."""
        return float((self.low / self.high) ** (1 - step / (self.steps - 1)))

    def rate(self, step: int) -> float:
        return self.high * self.factor(step)

    def told(self, step: int, loss: float) -> bool:
        """Take the loss of a step (counted from 1); whether the training has diverged: the loss is no number, or its
        trailing average is four times the lowest so far."""
        self.losses.append(loss)
        if not math.isfinite(loss):
            self.diverged = True
            return True
        self._mean = _TRAILING * self._mean + (1 - _TRAILING) * loss
        mean = self._mean / (1 - _TRAILING ** len(self.losses))
        self._best = min(self._best, mean)
        self.limit = _TIMES * self._best
        self.diverged = mean > self.limit
        return self.diverged


def check(objective: str, low: float, high: float, steps: int) -> None:
    """An `InputError` for an objective whose loss tells nothing, and for a range that is none."""
    if objective == "grpo":
        raise InputError(
            "a range test reads the loss, and grpo's stays around 0 whatever is learnt",
            do="compare the rewards of short runs instead: edgeft run RECIPE train --set train.max_steps=20",
        )
    if not 0 < low < high or steps < 10:
        raise InputError("a range test needs two rates, the lower one first, and 10 steps at least")


def find(job: Job, *, low: float, high: float, steps: int) -> Found:
    """Run the test on a job: its base, rows, adapter and optimizer, the rate from `low` to `high` in `steps` steps.
    Writes into the job's scratch folder only. `InputError` as of `check`."""
    from edgeft.training.arguments import training_arguments
    from edgeft.training.trainer import Task, make_trainer
    from edgeft.training.watch import Schedule, Watch

    check(job.settings.objective, low, high, steps)
    settings = replace(
        job.settings, learning_rate=high, max_steps=steps, sample_answers=0, report_to=[], keep_best=False,
        early_stopping_patience=None,
    )  # fmt: skip
    sweep = Sweep(low, high, steps)
    with opened(replace(job, settings=settings)) as made:
        tokens = [0] * (steps + 1)  # no speed is told: there is none to keep
        schedule = Schedule(steps, frozenset(), save_every=steps + 1, tokens=tokens)
        watch = Watch(schedule, job.listen, high, judge=sweep.told)
        task = Task(
            made.tuned.model, made.objective, made.batches, None, watch, job.scratch, "", made.device, settings,
            rates=sweep.factor,
        )  # fmt: skip
        arguments = training_arguments(settings, steps=steps, device=made.device, dtype=made.dtype, output=job.scratch)
        make_trainer(task, arguments).train()
    return read_off(sweep)


def read_off(sweep: Sweep) -> Found:
    """The curve of a finished sweep, and its suggestions."""
    losses = [loss for loss in sweep.losses if math.isfinite(loss)]
    smooth = smoothed([min(loss, sweep.limit) for loss in losses])
    points = tuple(
        Point(i + 1, sweep.rate(i), loss, mean) for i, (loss, mean) in enumerate(zip(losses, smooth, strict=True))
    )
    diverged = sweep.rate(len(sweep.losses) - 1) if sweep.diverged else None
    if not points:
        return Found(points, None, None, diverged)
    lowest = min(range(len(points)), key=lambda i: smooth[i])
    if smooth[0] - smooth[lowest] <= _FALL * abs(smooth[0]):
        return Found(points, None, None, diverged)
    slopes = [after - before for before, after in itertools.pairwise(smooth)]
    steepest = min(range(lowest), key=lambda i: slopes[i])
    return Found(points, points[steepest].rate, points[lowest].rate, diverged)


def smoothed(values: Sequence[float]) -> list[float]:
    """Each value with its neighbours, weighted by a Gaussian. Unlike a trailing average it moves nothing along the
    curve, and a rate that is read off it is not too high."""
    deviation = max(1.0, _WIDTH * len(values))
    found = []
    for centre in range(len(values)):
        reach = range(max(0, centre - int(3 * deviation)), min(len(values), centre + int(3 * deviation) + 1))
        weights = [math.exp(-0.5 * ((i - centre) / deviation) ** 2) for i in reach]
        found.append(sum(w * values[i] for w, i in zip(weights, reach, strict=True)) / sum(weights))
    return found
