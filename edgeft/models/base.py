"""What `base_model:` names: `builtin:NAME`, a folder, or a hub id; resolved to a local folder of safetensors and JSON.
Behind it tokens to add may stand (`edgeft.models.grown`).

Called by the pipeline (fingerprint of a "model" source), by runtimes and by stages. Imports nothing heavy; a hub id
that is not in the local cache is downloaded only by `fetch`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeft import extras
from edgeft.errors import ModelError
from edgeft.files import is_lfs_pointer
from edgeft.models import grown
from edgeft.registry import suggestion

BUILTIN = Path(__file__).parent / "builtin"
# What is downloaded and read of a hub repository: weights only as safetensors, no code.
PATTERNS = ("*.safetensors", "*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt", "README.md", "LICENSE*")
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?(@[\w./-]+)?$")  # ORG/NAME, NAME, either with @REVISION
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Base:
    """A base model reference taken apart. `folder` is None for a hub id that is not in the local cache, and
    for a derived one."""

    ref: str
    kind: str  # "builtin", "folder", "hub", "derived" (made of another when it is first needed)
    folder: Path | None
    revision: str | None = None  # the commit, for a hub id in the cache


def builtin_names() -> list[str]:
    return sorted(path.name for path in BUILTIN.iterdir() if (path / "config.json").is_file())


def find(ref: str, *, relative_to: Path | None = None) -> Base:
    """Take a reference apart without any network. A `ModelError` for a builtin or folder that is not there."""
    original, tokens = grown.split(ref)
    if tokens:
        return _find_grown(ref, find(original, relative_to=relative_to), tokens)
    if ref.startswith("builtin:"):
        name = ref.removeprefix("builtin:")
        if name not in builtin_names():
            raise ModelError(f"there is no built-in base model {name!r}", do=suggestion(name, builtin_names()))
        return Base(ref, "builtin", BUILTIN / name)
    path = Path(ref).expanduser()
    local = path if path.is_absolute() else (relative_to or Path.cwd()) / path
    if local.is_dir():
        return Base(ref, "folder", local.resolve())
    if path.is_absolute() or ref.startswith((".", "~")) or not _HUB_ID.match(ref):
        raise ModelError(
            "the base model folder is not there", where=local, do="give a folder, a hub id or builtin:NAME"
        )
    name, _, revision = ref.partition("@")
    return _find_in_cache(ref, name, revision or "main")


def _find_grown(ref: str, original: Base, tokens: Sequence[str]) -> Base:
    """One that has been made is a folder. One that has not is "derived" with what is there already, and without that
    as one that has to be fetched."""
    place = grown.place_of(original.folder, tokens) if original.folder is not None else None
    if place is not None and (place / grown.GROWN).is_file():
        return Base(ref, "folder", place)
    return Base(ref, "hub" if original.folder is None else "derived", None)


def _find_in_cache(ref: str, name: str, revision: str) -> Base:
    """Look a hub id up in the cache's documented layout: models--ORG--NAME/{refs/REVISION, snapshots/COMMIT/}."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repository = cache / ("models--" + name.replace("/", "--"))
    pointer = repository / "refs" / revision
    commit = pointer.read_text().strip() if pointer.is_file() else revision
    snapshot = repository / "snapshots" / commit
    if (snapshot / "config.json").is_file():
        return Base(ref, "hub", snapshot, commit)
    return Base(ref, "hub", None)


def fetch(base: Base) -> Base:
    """Download a hub id that is not in the local cache (safetensors, JSON and tokenizer files only)."""
    if base.folder is not None:
        return base
    extras.require("train")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, _, revision = base.ref.partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"the base model {base.ref!r} is neither a folder nor in the local cache, "
            f"and the hub did not give it ({reason})",
            do="check the name and the network, or give the path of a downloaded folder",
        ) from None
    return Base(base.ref, "hub", folder, folder.name)


def check(base: Base) -> None:
    """Refuse a folder that is not a safe, whole checkpoint: pickles, LFS pointers, no config, weights or tokenizer."""
    folder = base.folder
    if folder is None:
        return
    if not (folder / "config.json").is_file():
        raise ModelError("the base model has no config.json", where=folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"the checkpoint is a pickle ({pickles[0]}), which can run code when it is opened",
                where=folder,
                do="use a safetensors copy, or convert it where you trust it: model.save_pretrained(folder)",
            )
        raise ModelError("the base model has no *.safetensors weights", where=folder)
    _check_pointers(weights)
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer.model").is_file():
        raise ModelError("the base model has no tokenizer.json", where=folder)


def _check_pointers(weights: Sequence[Path]) -> None:
    for path in weights:
        if is_lfs_pointer(path):
            raise ModelError("this is a Git LFS pointer, not the weights", where=path, do="run: git lfs pull")


def resolve(ref: str, *, relative_to: Path | None = None) -> Path:
    """The local folder of a base model: found, downloaded when it is a hub id that is not cached, checked; made when
    tokens are to be added."""
    original, tokens = grown.split(ref)
    if tokens:
        return grown.grow(resolve(original, relative_to=relative_to), ref, tokens)
    base = fetch(find(ref, relative_to=relative_to))
    check(base)
    assert base.folder is not None
    return base.folder


def reference_of(folder: Path) -> str:
    """How a recipe would name the base in a local folder: builtin:NAME, a hub id (from the cache's layout), else the
    folder's own name: nothing about where it lies on this machine."""
    known = grown.reference_of(folder)
    if known is not None:
        return known
    path = folder.resolve()
    if path.parent == BUILTIN.resolve():
        return f"builtin:{path.name}"
    for parent in path.parents:
        if parent.name.startswith("models--"):
            return parent.name.removeprefix("models--").replace("--", "/")
    return path.name
