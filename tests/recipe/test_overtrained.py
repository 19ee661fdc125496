"""The quickstart's data, over-trained: the gate stops the release, nothing is exported, and the report says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUINOUS = {
    "train.learning_rate": "0.3",
    "train.num_epochs": "1",
    "train.max_steps": "12",
    "eval.suites.task.limit": "24",
    "eval.suites.general.limit": "60",
}


@pytest.mark.slow
def test_a_ridiculous_learning_rate_fails_the_gate(tmp_path: Path) -> None:
    overrides = [part for key, value in RUINOUS.items() for part in ("--set", f"{key}={value}")]
    command = [str(Path(sys.executable).with_name("edgeft")), "run", str(ROOT / "recipes" / "quickstart.yaml")]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        return subprocess.run(
            [*command, *overrides, *more],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    done = run()
    assert done.returncode == 4, done.stderr[-3000:]
    assert "gate:" in done.stderr
    built = {path.name for path in (tmp_path / "build" / "quickstart").iterdir()}
    assert not [name for name in built if name.startswith(("export", "verify", "merge"))]
    assert {"eval.base", "eval.tuned", "gate", "report"} <= built
    report = (tmp_path / "build" / "quickstart" / "report" / "report.html").read_text(encoding="utf-8")
    verdict = json.loads((tmp_path / "build" / "quickstart" / "gate" / "verdict.json").read_text(encoding="utf-8"))
    failed = [check["gate"] for check in verdict["checks"] if not check["passed"]]
    assert failed
    assert all(gate.replace(">", "&gt;").replace("<", "&lt;") in report for gate in failed)

    again = run("--json")
    assert again.returncode == 4
    statuses = {target["name"]: target["status"] for target in json.loads(again.stdout)["targets"]}
    assert statuses["train"] == "up to date"
    assert statuses["gate"] == "failed verdict"
    assert statuses["export.gguf-f16"] in ("blocked", "not run")
