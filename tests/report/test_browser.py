"""The page in a real browser, when there is one: it renders, logs nothing, and hostile titles stay text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.evals.fakes import FakeRuntime, conversation
from tests.stages.made_run import MadeRun, answers, task_rows

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


HOSTILE = '<script>document.title="owned"</script></style><img src=x onerror=alert(1)>{{ 7*7 }}\u202e$x$' + "w" * 600
MEASURE = """<script>addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  document.body.append("measured " + page.documentElement.scrollWidth + " of " + page.documentElement.clientWidth);
})</script>"""


def hostile_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with everything on it: hostile rows, long answers, two files, a failed gate."""
    rows = [conversation(f"{HOSTILE} {i}", HOSTILE, f"{HOSTILE}:{i}") for i in range(4)] + task_rows(10)
    made = MadeRun(folder, monkeypatch, rows)
    trained = FakeRuntime(answers(0.9, 0.5))
    made.evaluate(FakeRuntime(answers(0.2, 0.9), default=(HOSTILE + " ") * 15), trained)
    made.gate("task.exact_match >= 0.90")
    for name in ("gguf-q8_0", "onnx-int4"):
        made.verify(name, FakeRuntime(default=HOSTILE), trained)
    return made.report(title=HOSTILE).path / "report.html"


def chromium(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_body_never_scrolls_sideways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    page = hostile_page(tmp_path / "run", monkeypatch)
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe src="{page.as_uri()}" style="width:{width}px;height:900px;border:0"></iframe>{MEASURE}')
    done = chromium(tmp_path, "--allow-file-access-from-files", "--dump-dom", frame.as_uri())
    found = re.search(r"measured (\d+) of (\d+)", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1]) <= int(found[2]) <= width


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_nothing_is_asked_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = hostile_page(tmp_path / "run", monkeypatch)
    log = tmp_path / "net.json"
    done = chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", page.as_uri())
    assert "<title>&lt;script&gt;" in done.stdout  # the script did not run: the title is still the text
    assert "CONSOLE" not in done.stderr
    assert "<script" not in done.stdout
    asked = re.findall(r'"url":"(https?://[^"]+)"', log.read_text())
    assert [url for url in asked if "google" not in url and "gvt1" not in url] == []  # the browser's own errands


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
