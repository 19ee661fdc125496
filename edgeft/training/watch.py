"""What happens between steps: when to evaluate, save and stop, the loss curve, progress, and an end to a diverging run.

The curve and every decision follow from the Trainer's own history (which its checkpoints carry), never from memory or
the clock, except when to save: a checkpoint may come at any step without changing the result.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.progress import Listener, Progress, silent

_SAVE_SECONDS = 60.0
FIGURE = "figure_"  # what an objective tells beside the loss, in the Trainer's history
_SPIKE_STEPS = 20
_SPIKE_FLOOR = 1.0  # nats: a loss near 0 may well be ten times the one before


@dataclass(frozen=True)
class Schedule:
    """When things happen, in optimizer steps."""

    steps: int
    evaluate_at: frozenset[int]
    save_every: int | None = None  # None: where it is evaluated, and once a minute
    patience: int | None = None
    spike: float | None = None  # see `is_spike`
    tokens: Sequence[int] = (0,)  # tokens of the steps so far: tokens[n] after n steps


def losses(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(step, validation loss) of each evaluation."""
    return [(int(entry["step"]), float(entry["eval_loss"])) for entry in history if "eval_loss" in entry]


def best_step(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the lowest validation loss, the first of equal ones."""
    found = losses(history)
    return min(found, key=lambda pair: (pair[1], pair[0]))[0] if found else None


def is_patience_over(history: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` evaluations brought no better validation loss than the best before them."""
    found = losses(history)
    best = best_step(history)
    return patience is not None and best is not None and sum(step > best for step, _ in found) >= patience


def curve(history: Sequence[Mapping[str, Any]], every: int) -> list[dict[str, Any]]:
    """The rows of curve.jsonl: the mean training loss of each `every` steps, and each validation loss.

    Values are rounded to 7 significant digits, which is what float32 carries."""
    rows: list[dict[str, Any]] = []
    pending: list[float] = []
    figures: dict[str, list[float]] = {}
    last = max((int(entry["step"]) for entry in history if "loss" in entry), default=0)
    for entry in history:
        step = int(entry["step"])
        if "loss" in entry:
            pending.append(float(entry["loss"]))
            for name, value in entry.items():
                if name.startswith(FIGURE):
                    figures.setdefault(name.removeprefix(FIGURE), []).append(float(value))
            if step % every == 0 or step == last:
                mean = _rounded(sum(pending) / len(pending))
                row = {"step": step, "loss": mean, "learning_rate": _rounded(entry["learning_rate"])}
                rows.append(row | {name: _rounded(sum(told) / len(told)) for name, told in sorted(figures.items())})
                pending, figures = [], {}
        if "eval_loss" in entry:
            told = {name: _rounded(value) for name, value in entry.items() if name.startswith("eval_")}
            if rows and rows[-1]["step"] == step:
                rows[-1] |= told
            else:
                rows.append({"step": step, **told})
    return rows


def _rounded(value: float) -> float:
    return float(f"{float(value):.7g}")


def is_spike(history: Sequence[Mapping[str, Any]], loss: float, ratio: float | None) -> bool:
    """Whether `loss` is `ratio` times the median of the last 20 steps before it (and well above it)."""
    before = [float(entry["loss"]) for entry in history if "loss" in entry][-_SPIKE_STEPS - 1 : -1]
    if ratio is None or len(before) < _SPIKE_STEPS:
        return False
    usual = statistics.median(before)
    return loss > ratio * usual and loss > usual + _SPIKE_FLOOR


def overfitting(history: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say when the validation loss has risen well above its best while the training loss went on falling."""
    found, best = losses(history), best_step(history)
    if best is None or len(found) < 2:
        return None
    lowest, last = dict(found)[best], found[-1]
    trained = [float(entry["loss"]) for entry in history if "loss" in entry and int(entry["step"]) > best]
    half = len(trained) // 2
    if last[1] < lowest + 0.05 * abs(lowest) or half < 1:
        return None
    if statistics.mean(trained[half:]) > statistics.mean(trained[:half]):
        return None
    return (
        f"overfitting: the validation loss rose from {lowest:.4f} (step {best}) to {last[1]:.4f} (step {last[0]}) "
        "while the training loss fell; train fewer steps, or write keep_best: true or early_stopping_patience"
    )


@dataclass
class Watch:
    """Told of every step and evaluation by the callback of `edgeft.training.trainer`."""

    schedule: Schedule
    listen: Listener = silent
    learning_rate: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    saved_step: int = 0
    first_step: int | None = None
    judge: Callable[[int, float], bool] | None = None  # of a range test: told of each step's loss; whether to stop
    stopped: bool = False

    def wants_evaluation(self, step: int) -> bool:
        return step in self.schedule.evaluate_at

    def wants_checkpoint(self, step: int) -> bool:
        if self.schedule.save_every is not None:
            return step % self.schedule.save_every == 0
        late = time.monotonic() - self.saved >= _SAVE_SECONDS
        return late or (step in self.schedule.evaluate_at and step < self.schedule.steps)

    def step_done(self, step: int, loss: float, history: Sequence[Mapping[str, Any]]) -> None:
        """Say where the training is; an `EdgeftError` when the loss is no number any more."""
        if self.judge is not None:
            self.stopped = self.judge(step, loss)
        else:
            self._check(step, loss, history)
        now = time.monotonic()
        if self.first_step is None:  # the first step warms caches up: it is not counted into the speed
            self.first_step, self.started = step, now
        values = {"loss": f"{loss:.4f}"}
        found = losses(history)
        if found:
            values["validation"] = f"{found[-1][1]:.4f}"
        seconds = now - self.started
        if step > self.first_step and seconds > 0:
            per_second = (step - self.first_step) / seconds
            tokens = self.schedule.tokens[step] - self.schedule.tokens[self.first_step]
            if tokens:
                values["tokens/s"] = f"{tokens / seconds:.0f}"
            left = (self.schedule.steps - step) / per_second
            values["left"] = f"{int(left) // 60}:{int(left) % 60:02d}"
        self.listen(Progress(step, self.schedule.steps, "step", "training", values))

    def _check(self, step: int, loss: float, history: Sequence[Mapping[str, Any]]) -> None:
        if not math.isfinite(loss):
            raise EdgeftError(
                f"the training diverged: the loss of step {step} is {loss}; the last good checkpoint is that of step "
                f"{self.saved_step}",
                do=f"lower learning_rate (now {self.learning_rate:g}), or find one with: edgeft lr-find",
            )
        if is_spike(history, loss, self.schedule.spike):
            raise EdgeftError(
                f"the loss jumped to {loss:.4f} in step {step}; the last good checkpoint is that of step "
                f"{self.saved_step}",
                do=f"lower learning_rate (now {self.learning_rate:g}), or write max_loss_ratio: null to go on",
            )
