"""One stage into a folder, without a recipe; and the measuring around it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgeft import artifact
from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError, InputError, Interrupted
from edgeft.pipeline import run_stage
from edgeft.pipeline.interrupts import interrupts
from edgeft.pipeline.measure import Meter, environment
from edgeft.progress import Progress
from tests.pipeline import toy


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "rows.txt").write_text("one\n")
    return tmp_path / "rows.txt"


def read(out: Path, text: Path, **params: object) -> Artifact:
    return run_stage(toy.STAGES["read"], toy.Read.Params(**params), out, name="read", sources={"text": text})  # type: ignore[arg-type]


def test_a_stage_writes_an_artifact_into_a_folder(tmp_path: Path, text: Path) -> None:
    data = read(tmp_path / "deep" / "data", text)
    assert data.kind == "dataset"
    assert data.inputs["text"]["ref"] == str(text)
    assert data.measurements["seconds"] >= 0
    steps: list[Progress] = []
    trained = run_stage(
        toy.STAGES["train"],
        toy.Train.Params(),
        tmp_path / "trained",
        name="train",
        artifacts_in={"data": data},
        listen=steps.append,
    )
    assert [step.done for step in steps] == [1, 2, 3]
    assert trained.inputs["data"]["digest"] == data.digest
    assert artifact.damaged(artifact.load(tmp_path / "trained"), thorough=True) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "rows.txt", "trained"]


def test_the_digest_is_that_of_a_recipes_run(tmp_path: Path, text: Path) -> None:
    assert read(tmp_path / "a", text).digest == read(tmp_path / "b", text).digest
    assert read(tmp_path / "c", text, upper=True).digest != read(tmp_path / "d", text).digest


def test_nothing_is_overwritten(tmp_path: Path, text: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="there already"):
        read(tmp_path / "data", text)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(("fault", "kind"), [("boom", EdgeftError), ("full", EdgeftError), ("interrupt", Interrupted)])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, text: Path, fault: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read(tmp_path / "data", text, fault=fault)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.txt"]


def test_the_peak_is_the_stages_own() -> None:
    """Memory that an earlier stage freed does not count for the next one (where the kernel lets us reset its mark)."""
    first = Meter()
    block = bytearray(300_000_000)
    block[::4096] = b"x" * len(block[::4096])
    high = first.read()["peak_rss_bytes"]
    del block
    before = Path("/proc/self/clear_refs")
    if not before.exists():
        pytest.skip("no /proc")
    second = Meter().read()["peak_rss_bytes"]
    assert high > 300_000_000
    assert second < high - 250_000_000


def test_the_environment_holds_no_name_of_machine_or_user() -> None:
    import getpass
    import platform

    told = str(environment())
    assert platform.node() not in told
    assert getpass.getuser() not in told or getpass.getuser() == "root"


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with interrupts() as state:
            seen.append((signal.getsignal(signal.SIGINT), state.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
