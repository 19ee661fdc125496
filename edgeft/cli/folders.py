"""One stage on folders, without a recipe: `edgeft train|merge|eval|export|verify` all come down to `build`.

An input is an artifact, a link to one in build/, or what other tools wrote (a peft adapter, rows in a JSONL file).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import print_json
from edgeft.errors import InputError, ModelError

if TYPE_CHECKING:
    from edgeft.artifact import Artifact


def build(
    stage: str,
    params: Mapping[str, Any],
    out: Path,
    *,
    inputs: Mapping[str, Artifact | None],
    sources: Mapping[str, Path],
) -> Artifact:
    """Run one stage of the table into `out`, showing its progress on stderr: stdout is for the result."""
    from edgeft.cli.console import reporter
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.pipeline import Event, EventKind, run_stage
    from edgeft.progress import Progress
    from edgeft.stages import STAGES
    from edgeft.stages.targets import params_of

    refuse_existing(out)
    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    with reporter(to_stderr=True) as events:
        events(Event(EventKind.STARTED, stage, stage))

        def listen(progress: Progress) -> None:
            events(Event(EventKind.PROGRESS, stage, stage, progress=progress))

        made = run_stage(
            STAGES[stage],
            params_of(stage, **params),
            out,
            name=stage,
            artifacts_in={role: given for role, given in inputs.items() if given is not None},
            sources=sources,
            listen=listen,
            warn=lambda text: events(Event(EventKind.WARNING, stage, stage, message=text)),
        )
        seconds = float(made.measurements.get("seconds", 0.0))
        events(Event(EventKind.FINISHED, stage, stage, artifact=made, seconds=seconds))
    return made


def refuse_existing(out: Path) -> None:
    """An `InputError` when there is something at `--out`: nothing is overwritten."""
    if out.exists():
        raise InputError("this is there already", where=out, do="choose another folder or remove it")


def tell(made: Artifact, out: Path, *, as_json: bool) -> None:
    """Where the result is and what it is; its figures as JSON."""
    if as_json:
        print_json(
            {
                "path": out,
                "kind": made.kind,
                "passed": made.passed,
                "digest": made.digest,
                "bytes": made.size(),
                "facts": dict(made.facts),
                "measurements": dict(made.measurements),
            }
        )
    else:
        click.echo(str(out))


def base_folder(ref: str) -> Path:
    """The local folder of `--base`; a hub id that is not cached is downloaded."""
    from edgeft.models.base import resolve

    return resolve(ref)


def adapter_of(folder: Path | None) -> Artifact | None:
    """An adapter: an artifact, or any peft folder."""
    from edgeft import artifact

    if folder is None:
        return None
    if artifact.is_artifact(folder):
        return _of_kind(artifact.load(folder), "adapter")
    if not (folder / "adapter_config.json").is_file():
        raise ModelError("there is no adapter here (no adapter_config.json)", where=folder)
    return _plain(folder, "adapter")


def export_of(path: Path) -> Artifact:
    """An exported file: an artifact, a .gguf file, or an onnxruntime-genai folder."""
    from edgeft import artifact
    from edgeft.runtimes.gguf_header import is_adapter

    if path.is_dir() and artifact.is_artifact(path):
        return _of_kind(artifact.load(path), "gguf", "lora", "onnx")
    if path.is_file() and path.suffix == ".gguf":
        return _plain(path, "lora" if is_adapter(path) else "gguf")
    if (path / "genai_config.json").is_file() or ((path / "labels.json").is_file() and any(path.glob("*.onnx"))):
        return _plain(path, "onnx")
    raise ModelError("this is not an exported file", where=path, do="give a .gguf file, an ONNX folder, or an artifact")


@contextmanager
def dataset_of(path: Path) -> Iterator[Artifact]:
    """A dataset artifact; or rows of a JSONL file as the test split of a dataset for the time being."""
    import tempfile

    from edgeft import artifact, files
    from edgeft.data.rows import Entry, read_rows
    from edgeft.errors import Errors

    if path.is_dir():
        yield _of_kind(artifact.load(path), "dataset")
        return
    rows, errors = read_rows(Entry(path))
    if errors:
        raise Errors(errors)
    with tempfile.TemporaryDirectory(prefix="edgeft-") as folder:
        files.write_jsonl(Path(folder) / "test.jsonl", ({"id": row.id, **row.value} for row in rows))
        yield _plain(Path(folder), "dataset")


def _of_kind(found: Artifact, *kinds: str) -> Artifact:
    if found.kind not in kinds:
        raise ModelError(f"this is a {found.kind} artifact, not {' or '.join(kinds)}", where=found.path)
    return found


def _plain(path: Path, kind: str) -> Artifact:
    """What another tool wrote, as an artifact: its digest is that of its files."""
    from edgeft import files
    from edgeft.artifact import Artifact, content_digest

    found = [(path.name, path)] if path.is_file() else list(files.walk_files(path))
    entries = {name: {"sha256": files.digest_file(file), "size": file.stat().st_size} for name, file in found}
    digest = content_digest(kind, True, entries, ())
    return Artifact(path.resolve(), kind, stage="", fingerprint=digest, digest=digest, files=entries)
