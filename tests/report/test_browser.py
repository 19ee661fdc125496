"""The page in a real browser, when there is one: it renders, logs nothing, and hostile titles stay text."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_it_renders_without_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path / "run", monkeypatch)
    hostile = '<script>document.title="owned"</script>'
    made.evaluate(FakeRuntime(default=hostile), FakeRuntime(answers(0.9)))
    made.gate("task.exact_match >= 0.90")
    page = made.report(title=hostile).path / "report.html"
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Before and after" in done.stdout
    assert "<title>&lt;script&gt;" in done.stdout
    assert "CONSOLE" not in done.stderr
