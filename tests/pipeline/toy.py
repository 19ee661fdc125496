"""A toy kitchen for the engine's tests: stages that do a little honest work on text, and a recipe of them.

`CALLS` lists the stages that ran in this process, in order, as "stage:label".
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from edgeft import files
from edgeft.artifact import Outcome
from edgeft.errors import DataError, MissingError, ModelError
from edgeft.pipeline import Inputs, Options, Project, RecipeInfo, Source, Target, Work
from edgeft.progress import Progress
from edgeft.registry import Row

CALLS: list[str] = []


class CudaOutOfMemoryError(RuntimeError):
    """Named as torch names its own; the engine knows it by name only."""


def _full(work: Work) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work.folder / "big.bin"))


def _wrapped_full(work: Work) -> None:
    raise RuntimeError(f"SafetensorError: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")


def _read_only(work: Work) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(work.folder / "x"))


def _too_large(work: Work) -> None:
    """Really writes beyond the process's file size limit (the caller has set RLIMIT_FSIZE)."""
    (work.folder / "big.bin").write_bytes(b"x" * 4_000_000)


def _raise(error: BaseException) -> Callable[[Work], None]:
    def fault(work: Work) -> None:
        raise error

    return fault


def _swallowed_interrupt(work: Work) -> None:
    try:
        os.kill(os.getpid(), 2)
        time.sleep(5)
    except KeyboardInterrupt:
        return


FAULTS: dict[str, Callable[[Work], None]] = {
    "boom": _raise(ValueError("the oven\nexploded")),
    "memory": _raise(MemoryError()),
    "gpu-memory": _raise(CudaOutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "data": _raise(DataError("broken JSON", where="rows.jsonl:3")),
    "missing": _raise(MissingError("this needs a GPU")),
    "full": _full,
    "wrapped-full": _wrapped_full,
    "read-only": _read_only,
    "too-large": _too_large,
    "interrupt": lambda work: os.kill(os.getpid(), 2),
    "terminate": lambda work: os.kill(os.getpid(), 15),
    "swallowed-interrupt": _swallowed_interrupt,
}


class _Params(BaseModel):
    label: str = Field("", json_schema_extra={"fingerprint": False})
    fault: str = Field("", json_schema_extra={"fingerprint": False})


def _enter(stage: str, params: Any, work: Work) -> None:
    CALLS.append(f"{stage}:{params.label}" if params.label else stage)
    assert not any(work.folder.iterdir())
    if params.fault:
        FAULTS[params.fault](work)


class Read:
    """A source file (and a folder, when given) into a dataset."""

    VERSION = 1

    class Params(_Params):
        upper: bool = False

    @staticmethod
    def run(params: Read.Params, inputs: Inputs, work: Work) -> Outcome:
        _enter("read", params, work)
        text = inputs.sources["text"].read_text()
        if "more" in inputs.sources:
            text += "".join(path.read_text() for _, path in files.walk_files(inputs.sources["more"]))
        (work.folder / "rows.txt").write_text(text.upper() if params.upper else text)
        return Outcome("dataset", facts={"rows": len(text.splitlines())})


class Nested(BaseModel):
    bits: int = 4
    kind: str = "nf4"


class Train:
    """A hash chain over the data, one step at a time, with checkpoints: like training, it can go on from one."""

    VERSION = 1

    class Params(_Params):
        steps: int = 3
        learning_rate: float = 0.002
        quantization: Nested = Nested()
        modules: tuple[str, ...] = ("q", "v")
        pause: float = Field(0.0, json_schema_extra={"fingerprint": False})

    @staticmethod
    def run(params: Train.Params, inputs: Inputs, work: Work) -> Outcome:
        _enter("train", params, work)
        done, state = 0, f"{params.learning_rate} {params.quantization} {inputs['data'].file('rows.txt').read_text()}"
        checkpoint = work.scratch / "checkpoint.json"
        if checkpoint.exists():
            done, state = files.read_json(checkpoint)
            CALLS.append(f"resumed at {done}")
        for step in range(done, params.steps):
            state = hashlib.sha256(state.encode()).hexdigest()
            files.write_json(checkpoint, [step + 1, state])
            work.listen(Progress(step + 1, params.steps, "step"))
            time.sleep(params.pause)
        (work.folder / "adapter.bin").write_text(state)
        (work.folder / "settings").mkdir()
        files.write_json(work.folder / "settings" / "training.json", {"steps": params.steps})
        (work.folder / "speed.json").write_text(str(time.time_ns()))
        return Outcome("adapter", measurements={"tokens_per_s": 12.0}, volatile=("speed.json",))


class Export:
    """The adapter's text in another form."""

    VERSION = 1

    class Params(_Params):
        form: str = "a"

    @staticmethod
    def run(params: Export.Params, inputs: Inputs, work: Work) -> Outcome:
        _enter("export", params, work)
        (work.folder / f"{params.form}.gguf").write_text(params.form + inputs["train"].file("adapter.bin").read_text())
        return Outcome("gguf", measurements={"seconds": 0.5})


class Judge:
    """Passes unless told otherwise."""

    VERSION = 1

    class Params(_Params):
        passes: bool = True

    @staticmethod
    def run(params: Judge.Params, inputs: Inputs, work: Work) -> Outcome:
        _enter("judge", params, work)
        digests = {role: given.digest for role, given in inputs.artifacts.items()}
        files.write_json(work.folder / "verdict.json", {"passed": params.passes, "judged": digests})
        return Outcome("verdict", passed=params.passes, facts={"score": 0.5 + 0.25 * params.passes})


class Report:
    """Lists what there is."""

    VERSION = 1
    Params = _Params

    @staticmethod
    def run(params: _Params, inputs: Inputs, work: Work) -> Outcome:
        _enter("report", params, work)
        files.write_json(work.folder / "report.json", {role: given.passed for role, given in inputs.artifacts.items()})
        return Outcome("report")


class Needy(Export):
    """Needs an extra that is not installed (the tests make it so)."""


class Wrong:
    """A stage that keeps its contract badly."""

    VERSION = 1
    Params = _Params

    @staticmethod
    def run(params: _Params, inputs: Inputs, work: Work) -> Any:
        return {"kind": "model"}


_HERE = "tests.pipeline.toy"
STAGES = {
    "read": Row(f"{_HERE}:Read", "read"),
    "train": Row(f"{_HERE}:Train", "train"),
    "export": Row(f"{_HERE}:Export", "export"),
    "judge": Row(f"{_HERE}:Judge", "judge"),
    "report": Row(f"{_HERE}:Report", "report"),
    "needy": Row(f"{_HERE}:Needy", "needs an extra", extra="gguf"),
    "wrong": Row(f"{_HERE}:Wrong", "returns nonsense"),
}


@dataclass(frozen=True)
class Found:
    ref: str
    kind: str
    folder: Path | None
    revision: str | None = None


@dataclass
class ToyModels:
    """Folders by path; hub ids from a dictionary of what is cached; a download adds to it."""

    hub: dict[str, tuple[Path, str]] = field(default_factory=dict)
    remote: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def find(self, ref: str, *, relative_to: Path | None = None) -> Found:
        if ref.startswith("./"):
            return Found(ref, "folder", (relative_to or Path.cwd()) / ref)
        if ref in self.hub:
            return Found(ref, "hub", *self.hub[ref])
        return Found(ref, "hub", None)

    def resolve(self, ref: str, *, relative_to: Path | None = None) -> Path:
        found = self.find(ref, relative_to=relative_to)
        if found.folder is None:
            if ref not in self.remote:
                raise ModelError(f"no {ref} on the hub")
            self.hub[ref] = self.remote[ref]
            return self.hub[ref][0]
        return found.folder


def targets(
    *,
    exports: tuple[str, ...] = ("a", "b"),
    base: str | None = "./base",
    stage: str = "export",
    **changes: dict[str, Any],
) -> list[Target]:
    """data → train → gate → export.X judged by verify.X → report. `changes`: target (dots as _) -> Params fields."""

    def params(kind: Any, name: str) -> Any:
        return kind(**changes.get(name.replace(".", "_"), {}))

    sources = {"base": Source("model", base)} if base else {}
    made = [
        Target("data", "read", params(Read.Params, "data"), sources={"text": Source("file", "rows.jsonl")}),
        Target("train", "train", params(Train.Params, "train"), inputs={"data": "data"}, sources=sources),
        Target("gate", "judge", params(Judge.Params, "gate"), inputs={"tuned": "train"}),
    ]
    for form in exports:
        values = {"form": form, **changes.get(f"export_{form}", {})}
        made.append(
            Target(
                f"export.{form}",
                stage,
                Export.Params(**values),
                inputs={"train": "train"},
                after=("gate",),
                judged_by=f"verify.{form}",
            )
        )
        made.append(
            Target(
                f"verify.{form}",
                "judge",
                params(Judge.Params, f"verify.{form}"),
                inputs={"export": f"export.{form}", "tuned": "train"},
            )
        )
    everything = {target.name: target.name for target in made}
    return [*made, Target("report", "report", params(_Params, "report"), inputs=everything, lenient=True)]


def kitchen(root: Path, *, models: ToyModels | None = None, name: str = "toy") -> Project:
    """A project in `root` with a source file and a base model, unless they are there."""
    if not (root / "rows.jsonl").exists():
        (root / "rows.jsonl").write_text("one\ntwo\n")
        (root / "base").mkdir()
        (root / "base" / "config.json").write_text("{}")
        (root / "base" / "model.safetensors").write_bytes(b"weights")
    return Project(root, RecipeInfo(name, "toy.yaml", "a: 1\n"), STAGES, models or ToyModels(), base=root)


__all__ = ["CALLS", "FAULTS", "STAGES", "Options", "ToyModels", "kitchen", "targets"]
