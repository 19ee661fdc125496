"""Small datasets, and trainings of them, for tests: real stages on a random tiny model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.pipeline.stage import Inputs, Work
from edgeft.progress import Listener, silent
from edgeft.stages import data as data_stage
from edgeft.training.arguments import Settings
from edgeft.training.batches import make_plan
from edgeft.training.opened import Job
from edgeft.training.run import Result, train

ROOMS = ("kitchen", "bedroom", "bath", "hall")


def rows(count: int) -> list[dict[str, Any]]:
    """Household commands of several lengths."""
    found = []
    for i in range(count):
        room, action = ROOMS[i % 4], "on" if i % 3 else "off"
        said = f"Turn the {room} light {action}" + " please" * (i % 4) + f" ({i})"
        answer = json.dumps({"device": "light", "room": room, "action": action})
        found.append(
            {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]},
        )
    return found


def write_rows(path: Path, count: int, texts: Mapping[str, str] | None = None) -> Path:
    """Rows as JSONL, words of them replaced by others."""
    written = "".join(json.dumps(row) + "\n" for row in rows(count))
    for word, other in (texts or {}).items():
        written = written.replace(word, other)
    path.write_text(written, encoding="utf-8")
    return path


def make_dataset(
    folder: Path, base: Path, count: int = 40, texts: Mapping[str, str] | None = None, **section: Any
) -> Path:
    """A dataset artifact's files, made by the data stage (no artifact.json)."""
    folder.mkdir(parents=True)
    source = write_rows(folder.parent / f"{folder.name}.jsonl", count, texts)
    params = data_stage.Params(
        datasets=[{"path": source.name, "type": "messages"}],  # type: ignore[list-item]
        **{"val_set_size": 8, "sequence_len": 128, **section},
    )
    data_stage.run(params, Inputs(sources={"base": base, "datasets.0": source}), Work(folder, folder))
    return folder


def dataset_artifact(folder: Path) -> Artifact:
    return Artifact(folder, "dataset", "data", "f" * 16, "d" * 16)


def run_training(
    folder: Path,
    base: Path,
    dataset: Path,
    *,
    scratch: Path | None = None,
    listen: Listener = silent,
    job: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Result:
    """Train into `folder`; a few quick steps unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = scratch or folder.parent / f"{folder.name}-scratch"
    scratch.mkdir(exist_ok=True)
    defaults: Mapping[str, Any] = {
        "max_steps": 6,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
        "lora_r": 4,
        "lora_alpha": 8,
        "threads": 1,
        "logging_steps": 2,
    }
    wanted = Settings(**{**defaults, **settings})
    return train(Job(base, "tiny", dataset, folder, scratch, wanted, listen=listen, **(job or {})))


def contents(folder: Path) -> dict[str, bytes]:
    """The reproducible files of an adapter."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name not in ("speed.json", "tensorboard")
    }


def plan(lengths: list[int], **changes: Any) -> Any:
    """A plan of two passes in micro-batches of four, unless told otherwise."""
    settings: dict[str, Any] = {"micro_batch_size": 4, "accumulation": 1, "epochs": 2, "max_steps": None, "seed": 1}
    return make_plan(lengths, **{**settings, **changes})
