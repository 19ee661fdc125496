"""A finished, immutable folder with an `artifact.json`: what it is, what it was made of, and the digest of each file.

`artifact.json` is written last, so its existence means that the artifact is whole. The artifact's own digest covers
kind, status and the files that are reproducible; files named in `volatile` (times, logs, HTML with times in it) and the
measurements are recorded but not part of it: the same recipe on the same machine gives the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import __version__, files
from edgeft.errors import ModelError

MANIFEST = "artifact.json"
KINDS = (
    "dataset", "adapter", "choice", "model", "imatrix", "gguf", "lora", "onnx", "evaluation", "probe", "verdict",
    "report",
)  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk. `path` is the folder; `inputs`: role -> {"target", "kind", "fingerprint", "digest"}."""

    path: Path
    kind: str
    stage: str
    fingerprint: str
    digest: str
    passed: bool = True  # False: a verdict that stops what comes after it
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # reproducible, small: what others need to use it
    measurements: Mapping[str, Any] = field(default_factory=dict)  # seconds, bytes of memory, tokens/s
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> {"sha256", "size"}
    volatile: tuple[str, ...] = ()

    def file(self, name: str) -> Path:
        """The path of one of its files; a `ModelError` when it has no such file."""
        path = self.path / name
        if not path.is_file():
            raise ModelError(f"the {self.kind} artifact has no file {name!r}", where=self.path)
        return path

    def size(self) -> int:
        """Bytes of its files, without the volatile ones: the same recipe gives the same number."""
        return sum(int(entry["size"]) for name, entry in self.files.items() if name not in self.volatile)


@dataclass(frozen=True)
class Outcome:
    """What a stage hands back after it has written its files into its work folder."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    passed: bool = True
    volatile: tuple[str, ...] = ()


def content_digest(kind: str, passed: bool, entries: Mapping[str, Mapping[str, Any]], volatile: Iterable[str]) -> str:
    skipped = set(volatile)
    content = {name: entry["sha256"] for name, entry in entries.items() if name not in skipped}
    return files.digest_text(files.canonical_json({"kind": kind, "passed": passed, "files": content}))


def finish(
    folder: Path,
    outcome: Outcome,
    *,
    stage: str,
    fingerprint: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Digest and fsync the files of a folder and write its `artifact.json`, last."""
    if outcome.kind not in KINDS:
        raise ValueError(f"unknown artifact kind {outcome.kind!r}")
    files.sync_tree(folder)
    entries = {
        name: {"sha256": files.digest_file(path), "size": path.stat().st_size}
        for name, path in files.walk_files(folder)
        if name != MANIFEST
    }
    unknown = set(outcome.volatile) - set(entries)
    if unknown:
        raise ValueError(f"volatile files that were not written: {sorted(unknown)}")
    files.write_json(
        folder / MANIFEST,
        {
            "kind": outcome.kind,
            "stage": stage,
            "fingerprint": fingerprint,
            "digest": content_digest(outcome.kind, outcome.passed, entries, outcome.volatile),
            "passed": outcome.passed,
            "edgeft": __version__,
            "params": dict(params),
            "inputs": dict(inputs),
            "facts": dict(outcome.facts),
            "measurements": dict(outcome.measurements),
            "environment": dict(environment),
            "volatile": sorted(outcome.volatile),
            "files": entries,
        },
    )


def is_artifact(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def load(folder: Path) -> Artifact:
    """Open an artifact folder (or a link to one). A `ModelError` when it is not one or cannot be read."""
    try:
        raw = files.read_json(folder / MANIFEST)
        return Artifact(
            path=folder.resolve(),
            kind=raw["kind"],
            stage=raw["stage"],
            fingerprint=raw["fingerprint"],
            digest=raw["digest"],
            passed=raw["passed"],
            params=raw["params"],
            inputs=raw["inputs"],
            facts=raw["facts"],
            measurements=raw["measurements"],
            files=raw["files"],
            volatile=tuple(raw["volatile"]),
        )
    except FileNotFoundError:
        raise ModelError("not an artifact: it has no artifact.json", where=folder) from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ModelError(f"artifact.json cannot be read ({error})", where=folder) from None


def damaged(artifact: Artifact, *, thorough: bool = False) -> list[str]:
    """Names of files that are missing or of another size; with `thorough`, of another digest."""
    wrong = []
    for name, entry in artifact.files.items():
        path = artifact.path / name
        whole = path.is_file() and path.stat().st_size == entry["size"]
        if not whole or (thorough and files.digest_file(path) != entry["sha256"]):
            wrong.append(name)
    return wrong
