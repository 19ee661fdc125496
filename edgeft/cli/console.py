"""How a run looks while it runs: a live bar in a terminal, plain lines elsewhere. Both fit 80 columns.

`reporter()` gives the listener that `edgeft run` and the single-stage commands hand to the work. Plain means no control
codes, one line when a target starts and one when it ends, and a progress line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from edgeft.artifact import Artifact
from edgeft.cli.faults import printable
from edgeft.files import human_size
from edgeft.pipeline.events import Event, EventKind, Reason
from edgeft.progress import Progress as Step

WIDTH = 80
NAME = 20  # columns of a target's name
QUIET_SECONDS = 20.0  # between two progress lines of the plain form


class Reporter(Protocol):
    """Hears the events of a run and draws them; to be used in a `with`."""

    def __call__(self, event: Event) -> None: ...

    def __enter__(self) -> Reporter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def reporter(*, to_stderr: bool = False) -> Reporter:
    """The live form in a terminal that can move its cursor, else the plain one. `to_stderr` keeps stdout for JSON."""
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveReporter(console)
    return PlainReporter(sys.stderr if to_stderr else sys.stdout)


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3:20, 1:02:03."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(step: Step) -> str:
    """ "120/400 steps", "1.2/3.4 GB", "512 rows"."""
    if step.unit == "B":
        done, total = human_size(step.done), human_size(step.total) if step.total else ""
        if total:
            return f"{done.split()[0] if done.split()[1] == total.split()[1] else done}/{total}"
        return done
    unit = f" {step.unit}{'' if step.unit.endswith('s') else 's'}" if step.unit else ""
    return f"{step.done:g}/{step.total:g}{unit}" if step.total else f"{step.done:g}{unit}"


def values(shown: Mapping[str, str]) -> str:
    """ "loss 0.12  1834 tokens/s": rates are written behind their number."""
    return "  ".join(f"{value} {name}" if "/" in name else f"{name} {value}" for name, value in shown.items())


def ending(event: Event) -> tuple[str, str]:
    """(what became of a target, colour) for the events that end one."""
    if event.kind is EventKind.FINISHED:
        passed = event.artifact is None or event.artifact.passed
        outcome = _outcome(event.artifact) if event.artifact is not None else ""
        text = "built" if passed else "did NOT pass"
        text += f" in {duration(event.seconds)}" if event.seconds else " (as before)"
        return (f"{text}{', ' + outcome if outcome else ''}", "green" if passed else "red")
    if event.kind is EventKind.SKIPPED:
        if event.artifact is not None:
            return "up to date", "dim"
        return f"not run{_because(event)}", "yellow"
    if event.kind is EventKind.BLOCKED:
        return f"blocked{_because(event)}", "yellow"
    return f"failed after {duration(event.seconds)}", "red"


def _because(event: Event) -> str:
    return f": {why(event.reasons)}" if event.reasons else ""


def why(reasons: Sequence[Reason], most: int = 3) -> str:
    """Reasons in one line: what is sure before what only follows from other targets, and not more than `most`."""
    sure = [str(reason) for reason in reasons if reason.kind != "pending"]
    if not sure:
        names = [str(reason).removeprefix("input ").removesuffix(" will be rebuilt") for reason in reasons]
        if not names:
            return ""
        listed = ", ".join(names[:most]) + (", …" if len(names) > most else "")
        return f"{'inputs' if len(names) > 1 else 'input'} {listed} will be rebuilt"
    more = f", and {len(sure) - most} more" if len(sure) > most else ""
    return "; ".join(sure[:most]) + more


def _outcome(artifact: Artifact) -> str:
    """The size of what was built, for artifacts whose size matters."""
    return human_size(artifact.size()) if artifact.kind in ("model", "gguf", "lora", "onnx", "adapter") else ""


class PlainReporter:
    """Lines for files, pipes and CI."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self._spoke = 0.0

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.flush()

    def __call__(self, event: Event) -> None:
        if event.kind is EventKind.STARTED:
            self._spoke = time.monotonic()
            counted = f"[{event.index}/{event.total}] " if event.total else ""
            self._say(f"{counted}{event.target}: {why(event.reasons)}" if event.reasons else f"{counted}{event.target}")
        elif event.kind is EventKind.PROGRESS and event.progress is not None:
            self._progress(event.target, event.progress)
        elif event.kind is EventKind.WARNING:
            self._say(f"{event.target}: warning: {event.message}")
        elif event.kind is EventKind.WAITING:
            self._say(f"{event.target}: waiting for another run that builds the same")
        elif event.kind in (EventKind.FINISHED, EventKind.SKIPPED, EventKind.BLOCKED, EventKind.FAILED):
            self._say(f"{event.target}: {ending(event)[0]}")

    def _progress(self, target: str, step: Step) -> None:
        now = time.monotonic()
        counts = bool(step.total or step.done)
        if counts and now - self._spoke < QUIET_SECONDS:
            return  # what counts nothing is said at once: it comes once and may take a while
        self._spoke = now
        parts = [step.what, amount(step) if counts else "", values(step.values)]
        self._say(f"{target}: {', '.join(part for part in parts if part)}")

    def _say(self, line: str) -> None:
        print(printable(line), file=self.stream, flush=True)


class _TimeLeft(ProgressColumn):
    """Time left: what the work itself says, else by the rate since its first step. Before that, the time it took."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        told, first, elapsed = task.fields.get("left"), task.fields.get("first", 0.0), task.elapsed or 0.0
        if told:
            return Text(f"-{told}", style="cyan")
        if not task.total or task.completed <= first or task.completed >= task.total:
            return Text(duration(elapsed), style="dim")
        left = elapsed * (task.total - task.completed) / (task.completed - first)
        return Text(f"-{duration(left)}", style="cyan")


class LiveReporter:
    """One line per finished target, and below them a bar for the one at work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(width=NAME, no_wrap=True), markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
            TextColumn("{task.fields[shown]}", table_column=Column(no_wrap=True, overflow="ellipsis"), markup=False),
            _TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        self._what = ""
        self._started = 0.0

    def __enter__(self) -> LiveReporter:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        if event.kind is EventKind.STARTED:
            self._start(event)
        elif event.kind is EventKind.PROGRESS and event.progress is not None:
            self._step(event.target, event.progress)
        elif event.kind is EventKind.WARNING:
            self._line(event.target, f"warning: {event.message}", "yellow")
        elif event.kind is EventKind.WAITING:
            self._line(event.target, "waiting for another run that builds the same", "yellow")
        elif event.kind in (EventKind.FINISHED, EventKind.SKIPPED, EventKind.BLOCKED, EventKind.FAILED):
            self._clear()
            self._line(event.target, *ending(event))

    def _start(self, event: Event) -> None:
        self._clear()
        if event.reasons:
            self._line(event.target, why(event.reasons), "dim")
        self._task = self.progress.add_task(event.target, total=None, shown="starting")

    def _step(self, target: str, step: Step) -> None:
        if self._task is None:
            self._task = self.progress.add_task(target, total=None, shown="")
        if step.what != self._what:  # another part of the work: its own clock
            self.progress.reset(self._task, first=step.done, shown="", left=None)
        self._what = step.what
        shown = {name: value for name, value in step.values.items() if name != "left"}  # has a column of its own
        parts = [amount(step), values(shown)] if step.total or step.done else [step.what]
        self.progress.update(
            self._task,
            completed=step.done,
            total=step.total,
            shown=printable("  ".join(part for part in parts if part)),
            left=step.values.get("left"),
        )

    def _clear(self) -> None:
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None
            self._what = ""

    def _line(self, target: str, text: str, style: str) -> None:
        """One event; the text goes on below itself when it is longer than the line."""
        room = max(self.console.width - NAME - 1, 20)
        pieces = Text(printable(text), style=style).wrap(self.console, room)
        for number, piece in enumerate(pieces):
            self.console.print(Text(f"{target if number == 0 else '':<{NAME}} ").append_text(piece))
