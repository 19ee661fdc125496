"""How a run looks: plain lines without control codes, and a live form that keeps within 80 columns."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from edgeft.artifact import Artifact
from edgeft.cli import console
from edgeft.cli.console import LiveReporter, PlainReporter, amount, duration, reporter, values, why
from edgeft.errors import StorageError
from edgeft.pipeline.events import Event, EventKind, Reason
from edgeft.progress import Progress

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def artifact(kind: str = "gguf", passed: bool = True) -> Artifact:
    return Artifact(
        Path("/store/x"), kind, "export", "f" * 64, "d" * 64, passed, files={"a": {"sha256": "", "size": 5_200_000}}
    )


RUN = [
    Event(EventKind.STARTED, "data", "data", (Reason("source", "file train.jsonl changed"),), index=1, total=4),
    Event(EventKind.WARNING, "data", message="3 train rows are longer than sequence_len 256 and left out (a:1, a:2)"),
    Event(EventKind.FINISHED, "data", "data", artifact=artifact("dataset"), seconds=1.25, index=1, total=4),
    Event(EventKind.STARTED, "train", "train", tuple(Reason("parameter", f"key{n} 1 → 2") for n in range(4)), index=2,
          total=4),
    Event(EventKind.PROGRESS, "train", progress=Progress(0, None, what="loading the base")),
    Event(EventKind.PROGRESS, "train",
          progress=Progress(120, 400, "step", "training", {"loss": "0.1234", "tokens/s": "3412"})),
    Event(EventKind.FINISHED, "train", "train", artifact=artifact("adapter"), seconds=200.0),
    Event(EventKind.SKIPPED, "eval.base", artifact=artifact("evaluation")),
    Event(EventKind.FINISHED, "gate", artifact=artifact("verdict", passed=False), seconds=0.1),
    Event(EventKind.BLOCKED, "export.gguf-q4_k_m", reasons=(Reason("blocked", "gate did not pass"),)),
    Event(EventKind.STARTED, "report", "report", (), index=4, total=4),
    Event(EventKind.FAILED, "report", error=StorageError("the disk is full"), seconds=3.0),
]  # fmt: skip

PLAIN = """\
[1/4] data: file train.jsonl changed
data: warning: 3 train rows are longer than sequence_len 256 and left out (a:1, a:2)
data: built in 1.2 s
[2/4] train: key0 1 → 2; key1 1 → 2; key2 1 → 2, and 1 more
train: loading the base
train: built in 3:20, 5.2 MB
eval.base: up to date
gate: did NOT pass in 0.1 s
export.gguf-q4_k_m: blocked: gate did not pass
[4/4] report
report: failed after 3.0 s
"""


def test_plain_lines() -> None:
    stream = io.StringIO()
    with PlainReporter(stream) as events:
        for event in RUN:
            events(event)
    assert stream.getvalue() == PLAIN


def test_plain_progress_is_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    stream = io.StringIO()
    events = PlainReporter(stream)
    events(Event(EventKind.STARTED, "train"))
    for step in range(100):
        now += 1.0
        events(Event(EventKind.PROGRESS, "train", progress=Progress(step, 100, "step", "", {"loss": "1.5"})))
    lines = stream.getvalue().splitlines()
    assert lines == ["train", *(f"train: {step}/100 steps, loss 1.5" for step in (19, 39, 59, 79, 99))]


def test_plain_progress_without_a_count_is_said_at_once() -> None:
    stream = io.StringIO()
    events = PlainReporter(stream)
    events(Event(EventKind.STARTED, "export"))
    events(Event(EventKind.PROGRESS, "export", progress=Progress(0, None, "", "compiling a kernel")))
    assert stream.getvalue().splitlines() == ["export", "export: compiling a kernel"]


def test_nothing_from_outside_steers_the_terminal() -> None:
    stream = io.StringIO()
    PlainReporter(stream)(Event(EventKind.WARNING, "data", message="row \x1b[2J is bad"))
    assert stream.getvalue() == "data: warning: row \\x1b[2J is bad\n"


@pytest.mark.parametrize("width", [80, 100])
def test_the_live_form_keeps_within_the_width(width: int) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=width, legacy_windows=False)
    with LiveReporter(terminal) as events:
        for event in RUN:
            events(event)
            events.progress.refresh()
    shown = ESCAPE.sub("", stream.getvalue())
    lines = [line for text in shown.splitlines() for line in text.split("\r")]
    assert max(map(len, lines)) <= width
    assert any("120/400 steps" in line and "loss 0.1234" in line and "3412 tokens/s" in line for line in lines)
    for target in ("data", "train", "eval.base", "gate", "export.gguf-q4_k_m", "report"):
        assert any(line.startswith(target) for line in lines), target


def test_the_live_form_shows_time_left() -> None:
    now = 0.0
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=80, legacy_windows=False)
    live = LiveReporter(terminal)
    live.progress.get_time = lambda: now  # type: ignore[method-assign]
    with live as events:
        events(Event(EventKind.STARTED, "train"))
        events(Event(EventKind.PROGRESS, "train", progress=Progress(1, 401, "step", "training")))
        live.progress.refresh()  # no rate is known yet
        now = 100.0
        events(Event(EventKind.PROGRESS, "train", progress=Progress(101, 401, "step", "training")))
        live.progress.refresh()
        told = Progress(102, 401, "step", "training", {"left": "1:23", "loss": "2.0"})
        events(Event(EventKind.PROGRESS, "train", progress=told))
        live.progress.refresh()
    shown = ESCAPE.sub("", stream.getvalue())
    first, rated, told_left = [line for line in re.split("[\r\n]", shown) if "/401 steps" in line][:3]
    assert first.rstrip().endswith("1/401 steps 0.0 s")
    assert rated.rstrip().endswith("101/401 steps -5:00")
    assert told_left.rstrip().endswith("102/401 steps  loss 2.0 -1:23")


def test_markup_in_texts_stays_text() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=80, legacy_windows=False)
    with LiveReporter(terminal) as events:
        events(Event(EventKind.STARTED, "train", reasons=(Reason("parameter", "targets [bold]x[/bold] → [a]"),)))
        events(Event(EventKind.PROGRESS, "train", progress=Progress(1, 2, "step", "", {"loss": "[red]"})))
        events.progress.refresh()
    shown = ESCAPE.sub("", stream.getvalue())
    assert "targets [bold]x[/bold] → [a]" in shown
    assert "loss [red]" in shown


def test_no_terminal_means_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter() as events:
        assert isinstance(events, PlainReporter)
        events(RUN[0])
    with reporter(to_stderr=True) as events:
        events(RUN[2])
    assert capsys.readouterr() == ("[1/4] data: file train.jsonl changed\n", "data: built in 1.2 s\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (12.4, "12 s"), (200, "3:20"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Progress(3, 10, "row"), "3/10 rows"),
        (Progress(1_500_000, 3_000_000, "B"), "1.5/3.0 MB"),
        (Progress(900_000, 3_000_000, "B"), "900.0 kB/3.0 MB"),
        (Progress(512, None, "row"), "512 rows"),
        (Progress(2, 4), "2/4"),
    ],
)
def test_amounts(step: Progress, text: str) -> None:
    assert amount(step) == text


@pytest.mark.parametrize(
    ("reasons", "text"),
    [
        ((), ""),
        ((Reason("never", "never built"), Reason("pending", "input data will be rebuilt")), "never built"),
        ((Reason("pending", "input data will be rebuilt"),), "input data will be rebuilt"),
        (
            tuple(Reason("pending", f"input {name} will be rebuilt") for name in "abcd"),
            "inputs a, b, c, … will be rebuilt",
        ),
        (tuple(Reason("parameter", f"k{n} 1 → 2") for n in range(5)), "k0 1 → 2; k1 1 → 2; k2 1 → 2, and 2 more"),
    ],
)
def test_reasons(reasons: tuple[Reason, ...], text: str) -> None:
    assert why(reasons) == text


def test_values() -> None:
    assert values({"loss": "0.1", "tokens/s": "90"}) == "loss 0.1  90 tokens/s"
