"""Kills runs of a small real recipe at points spread over all stages. Run by test_kill_real.py in a process of its own:

    python -m tests.pipeline.real_crashes FOLDER

One undisturbed run in `FOLDER/calm`, then one chain of runs in `FOLDER/stormy`: each goes on from what the last one
left and is killed a little further, until one comes through. The heavy libraries are imported once, before the forks.
Prints one JSON object: the kills that happened, and what both folders hold in the end.

A point is TARGET:HOW with HOW one of

    write     when it opens the first file in its work folder for writing
    step=N    at the N-th progress event of the target
    half      half-way through the time it took in the undisturbed run, wherever that is (a timer, also inside C code)
    finish    at the first fsync of its finished files
    rename    just before the finished folder is renamed into place
    link      after the rename, before its link in build/ (and the record of the run) is written
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.models import base
from edgeft.pipeline import Event, EventKind, Project, RecipeInfo, plan, run
from edgeft.pipeline.store import PARTIAL
from edgeft.recipe import load
from edgeft.stages import STAGES
from edgeft.stages.targets import targets_of
from tests.models_made import make_llama
from tests.pipeline.crashes import forked

HEAVY = (
    "torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "safetensors.torch", "pyarrow.parquet",
    "onnx", "onnx_ir", "onnxruntime", "onnxruntime_genai", "onnxruntime_genai.models.builder", "llama_cpp", "gguf",
    "scipy.stats", "jinja2.sandbox", "transformers.models.llama.modeling_llama", "trl.trainer.sft_trainer",
)  # fmt: skip
RECIPE = """\
base_model: ./base
seed: 7
data:
  datasets: [{path: train.jsonl}]
  validation: [{path: validation.jsonl}]
  test: [{path: test.jsonl}]
  sequence_len: 96
train: {lora_r: 4, max_steps: 8, micro_batch_size: 4, learning_rate: 2e-3, save_steps: 2, logging_steps: 1}
merge: true
eval:
  suites:
    task: {rows: test, max_tokens: 8}
gate:
  - task.loss <= 100
export: [gguf-q4_k_m, onnx-int4]
verify: {limit: 4}
"""
# "rename" and "link" end a target's part of the story: what they leave is whole, and the next run takes it as it is.
# "half" may come later than meant on a busy machine, so it comes late in each part.
STORY = (
    "data:write", "data:finish", "data:half", "data:rename",
    "train:step=3", "train:step=2", "train:write", "train:finish", "train:half", "train:rename",
    "eval.base:write", "eval.base:half", "eval.base:link",
    "eval.tuned:finish", "eval.tuned:half",
    "probe:write", "probe:half",
    "gate:write", "gate:finish", "gate:link",
    "merge:write", "merge:half", "merge:rename",
    "export.gguf-q4_k_m:write", "export.gguf-q4_k_m:finish", "export.gguf-q4_k_m:half", "export.gguf-q4_k_m:link",
    "verify.gguf-q4_k_m:write", "verify.gguf-q4_k_m:half", "verify.gguf-q4_k_m:rename",
    "export.onnx-int4:write", "export.onnx-int4:finish", "export.onnx-int4:half", "export.onnx-int4:rename",
    "verify.onnx-int4:finish", "verify.onnx-int4:half",
    "report:write", "report:finish", "report:link",
)  # fmt: skip


def make_project(root: Path) -> Project:
    """A recipe with a random 2-layer Llama and a few rows."""
    make_llama(root / "base")
    for name, start, count in (("train", 0, 24), ("validation", 24, 6), ("test", 30, 6)):
        rows = [
            [
                {"role": "user", "content": f"Turn light {i} on."},
                {"role": "assistant", "content": json.dumps({"light": i % 7})},
            ]
            for i in range(start, start + count)
        ]
        (root / f"{name}.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    (root / "small.yaml").write_text(RECIPE)
    return open_project(root)


def open_project(root: Path) -> Project:
    return Project(root, RecipeInfo("small", "small.yaml", RECIPE), STAGES, base, base=root)


class Killer:
    """Kills this process at one point, by watching events, audit events and the calls that change the file system."""

    def __init__(self, root: Path, point: str | None, seconds: dict[str, float]) -> None:
        self.target, _, self.how = (point or "").rpartition(":")
        self._landed = root / "landed"
        self._seconds = seconds
        self._steps = 0
        self._now = ""

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def listen(self, event: Event) -> None:
        here = event.target == self.target
        if event.kind is EventKind.STARTED:
            if self._now == self.target != "":
                self.kill()  # the timer has not come yet: no further than this
            self._now = event.target
            self._landed.write_text(event.target)
            if here and self.how == "half":
                _kill_after(self._seconds[self.target] / 2)
        elif event.kind is EventKind.PROGRESS and here:
            self._steps += 1
            if self.how == f"step={self._steps}":
                self.kill()
        elif event.kind is EventKind.FINISHED and here and self.how == "link":
            self.kill()

    def patch(self) -> None:
        sys.addaudithook(self._audit)
        rename, fsync = os.rename, os.fsync

        def watched_rename(source: Any, *rest: Any, **named: Any) -> None:
            if self._now == self.target and self.how == "rename" and str(source).endswith(PARTIAL):
                self.kill()
            rename(source, *rest, **named)

        def watched_fsync(descriptor: int) -> None:
            if self._now == self.target and self.how == "finish" and PARTIAL in _path_of(descriptor):
                self.kill()
            fsync(descriptor)

        os.rename, os.fsync = watched_rename, watched_fsync  # type: ignore[assignment]

    def _audit(self, name: str, given: tuple[Any, ...]) -> None:
        if name == "open" and self.how == "write" and self._now == self.target and PARTIAL in str(given[0]):
            mode, flags = given[1], given[2]
            if (isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR):
                self.kill()


def _kill_after(seconds: float) -> None:
    """SIGKILL this process after a while, from another one: it comes at any instruction, also inside C code."""
    child = os.getpid()
    if os.fork() == 0:
        end = time.monotonic() + seconds
        while time.monotonic() < end and os.getppid() == child:
            time.sleep(0.01)
        if os.getppid() == child:
            os.kill(child, signal.SIGKILL)
        os._exit(0)


def _path_of(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return ""


def bake(root: Path, point: str | None, seconds: dict[str, float]) -> dict[str, Any]:
    """One run, killed at a point; what it ended with otherwise."""
    project = open_project(root)
    targets = targets_of(load(root / "small.yaml"))
    killer = Killer(root, point, seconds)
    if any(each.target.name == killer.target and not each.will_run for each in plan(targets, project)):
        return {"passed": True}  # a kill that was meant to come earlier came after it
    killer.patch()
    result = run(targets, project, None, killer.listen)
    return {
        "exit_code": result.exit_code,
        "error": str(result.error or ""),
        "seconds": {each.target.name: each.seconds or 0.0 for each in result.results},
        "statuses": {each.target.name: str(each.status) for each in result.results},
        "resumed": {
            each.target.name: each.artifact.measurements.get("resumed_from_step", 0)
            for each in result.results
            if each.artifact is not None
        },
    }


def facts_of(root: Path) -> dict[str, Any]:
    """What both folders must have in common: digests, facts and verdicts by target, and nothing lying about."""
    found = {path.name: artifact.load(path) for path in sorted((root / "build" / "small").iterdir())}
    store = root / ".edgeft" / "store"
    scratch = root / ".edgeft" / "scratch"
    return {
        "digests": {name: each.digest for name, each in found.items()},
        "files": {
            name: {file: entry["sha256"] for file, entry in each.files.items() if file not in each.volatile}
            for name, each in found.items()
        },
        "facts": {name: dict(each.facts) for name, each in found.items()},
        "damaged": [name for name, each in found.items() if artifact.damaged(each, thorough=True)],
        "store": sorted(path.name for path in store.iterdir()),
        "scratch": sorted(path.name for path in scratch.iterdir()) if scratch.is_dir() else [],
    }


def main(folder: str) -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # what stages and their libraries print is not the answer
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    calm, stormy = Path(folder) / "calm", Path(folder) / "stormy" / "deeper"
    for root in (calm, stormy):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        forked(lambda root=root: str(make_project(root)))  # type: ignore[misc]
    status, first = forked(lambda: bake(calm, None, {}))
    assert status == 0, f"the undisturbed run ended with {status}"
    kills = []
    began = time.monotonic()
    for point in STORY:
        status, _ = forked(lambda point=point: bake(stormy, point, first["seconds"]))  # type: ignore[misc]
        killed = status == -signal.SIGKILL
        landed = (stormy / "landed").read_text() if killed else ""
        kills.append({"point": point, "killed": killed, "in": landed, "seconds": time.monotonic() - began})
        began = time.monotonic()
    status, last = forked(lambda: bake(stormy, None, {}))
    assert status == 0, f"the last run ended with {status}"
    told = {"calm": {**first, **facts_of(calm)}, "stormy": {**last, **facts_of(stormy)}, "kills": kills}
    with os.fdopen(output, "w") as stream:
        json.dump(told, stream)


if __name__ == "__main__":
    main(sys.argv[1])
