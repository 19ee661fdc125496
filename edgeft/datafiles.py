"""What `path:` of a dataset names: a file, a glob, a folder, or a hub id; and the data files that it stands for.

On the ground floor because the pipeline (digests), the recipe's check and `edgeft.data` all ask it. Imports nothing
heavy; a hub id that is not in the local cache is downloaded only by `resolve`.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeft import extras
from edgeft.errors import DataError

COMPRESSED = (".gz", ".zst")
FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
# How files and folders say which split they hold, besides its own name.
SPLIT_WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
_SAMPLE = re.compile(r"^(.+)#([1-9][0-9]*)$")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")


@dataclass(frozen=True)
class Found:
    """A reference taken apart. `path` is None for a hub dataset that is not in the local cache."""

    kind: str  # "file", "glob", "folder", "hub"
    path: Path | None
    revision: str | None = None  # the commit, for a hub id in the cache


def without_sample(written: str) -> tuple[str, int | None]:
    """("rows.jsonl", 500) of "rows.jsonl#500"; None when all rows are meant."""
    found = _SAMPLE.match(written)
    return (found[1], int(found[2])) if found else (written, None)


def is_data_file(name: str) -> bool:
    """Whether a file's name has the ending of rows, compressed or not."""
    return format_of(name) is not None


def format_of(name: str) -> str | None:
    """ ".jsonl" and the like, the ending of a compressed file left out; None when it is no ending of rows."""
    lower = name.lower()
    for ending in COMPRESSED:
        lower = lower.removesuffix(ending)
    return next((ending for ending in FORMATS if lower.endswith(ending)), None)


def is_plain_file(written: str) -> bool:
    """Whether a reference can only be one file, judged by its text alone."""
    return is_data_file(written) and not glob.has_magic(written)


def find(written: str, *, relative_to: Path) -> Found:
    """Take a reference (without `#N`) apart, without any network. What is not there is a file that is missing."""
    path = relative_to / Path(written).expanduser()
    if path.is_dir():
        return Found("folder", path)
    if path.exists():
        return Found("file", path)
    if glob.has_magic(written):
        return Found("glob", path)
    if _HUB_ID.match(written) and not is_data_file(written):
        name, _, revision = written.partition("@")
        return _cached(name, revision or "main")
    return Found("file", path)


def _cached(name: str, revision: str) -> Found:
    """A dataset in the hub's cache (datasets--ORG--NAME/{refs/REVISION, snapshots/COMMIT/}), or else in that of the
    `datasets` library (ORG___NAME/CONFIG/VERSION/DIGEST/*.arrow)."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    repository = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / ("datasets--" + name.replace("/", "--"))
    pointer = repository / "refs" / revision
    commit = pointer.read_text().strip() if pointer.is_file() else revision
    snapshot = repository / "snapshots" / commit
    if snapshot.is_dir() and any(_data_files(snapshot)):
        return Found("hub", snapshot, commit)
    built = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")) / name.replace("/", "___")
    if revision == "main" and any(_data_files(built)):
        return Found("hub", built)
    return Found("hub", None)


def resolve(written: str, *, relative_to: Path) -> Path:
    """The local path of a reference: as `find`, a hub dataset downloaded when it is not cached. `DataError` when the
    hub does not give it."""
    found = find(written, relative_to=relative_to)
    if found.path is not None:
        return found.path
    extras.require("train")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, _, revision = written.partition("@")
    wanted = ["README.md", *(f"*{ending}{more}" for ending in FORMATS for more in ("", *COMPRESSED))]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"{written!r} is neither a file nor a dataset in the local cache, and the hub did not give it "
            f"({str(error).splitlines()[0]})",
            do="check the name and the network, or give the path of a downloaded folder",
        ) from None


def files_of(path: Path, *, split: str | None = None, subset: str | None = None) -> list[Path]:
    """The data files that a located path stands for, sorted. Of a folder those of `split` when its files say which
    split they hold, all of them otherwise; below `subset` when it is given. `DataError` when there are none."""
    if glob.has_magic(str(path)) and not path.exists():
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (the pattern may be absolute)
        found = [Path(name) for name in names if Path(name).is_file()]
        if not found:
            raise DataError("no file matches this pattern", where=path, do="check it; ** stands for any folders")
        return found
    if not path.is_dir():
        return [path]
    found = list(_data_files(path))
    if not found:
        raise DataError("the folder holds no data files", where=path, do=f"known endings: {', '.join(FORMATS)}")
    declared = _declared(path, split, subset)
    return declared if declared else _of_split(path, _of_subset(path, found, subset), split)


def every_file(path: Path) -> list[tuple[str, Path]]:
    """(name, path) of all data files below a folder or of a glob: what a digest is taken of."""
    if path.is_dir():
        return [(file.relative_to(path).as_posix(), file) for file in _data_files(path)]
    return [(file.name if path == file else str(file), file) for file in files_of(path)]


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_data_file(path.name) and not hidden and path.is_file():
            yield path


def _of_subset(folder: Path, found: Sequence[Path], subset: str | None) -> list[Path]:
    if subset is None:
        return list(found)
    chosen = [path for path in found if subset in path.relative_to(folder).parts[:-1]]
    if not chosen:
        raise DataError(f"there is no subset {subset!r}", where=folder, do="name a folder in it, or leave subset out")
    return chosen


def _of_split(folder: Path, found: list[Path], split: str | None) -> list[Path]:
    if split is None:
        return found
    held = {path: _splits_in(path.relative_to(folder).as_posix()) for path in found}
    chosen = [path for path in found if split in held[path] or _has_word(path.relative_to(folder).as_posix(), split)]
    if not chosen and any(held.values()):
        known = sorted({name for names in held.values() for name in names})
        raise DataError(f"there is no split {split!r}", where=folder, do=f"its files are of: {', '.join(known)}")
    return chosen or found


def _splits_in(name: str) -> set[str]:
    return {split for split, words in SPLIT_WORDS.items() if any(_has_word(name, word) for word in words)}


def _has_word(name: str, word: str) -> bool:
    return re.search(rf"(^|[/_.-]){re.escape(word)}([/_.-]|$)", name, re.IGNORECASE) is not None


def _declared(folder: Path, split: str | None, subset: str | None) -> list[Path]:
    """The files that a dataset card (README.md) declares for a subset and split under `configs:`; none without it."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---\n") or "\nconfigs:" not in text:
        return []
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        configs = YAML(typ="safe", pure=True).load(text[4:].partition("\n---")[0])["configs"]
        named = {str(one["config_name"]): one["data_files"] for one in configs}
    except (YAMLError, KeyError, TypeError):
        return []
    if subset is None and len(named) > 1 and "default" not in named:
        raise DataError("the dataset has several subsets", where=folder, do=f"name one: subset: {', '.join(named)}")
    listed = named.get(subset or ("default" if "default" in named else next(iter(named))), [])
    if isinstance(listed, str):
        listed = [{"split": "train", "path": listed}]
    paths = [one["path"] for one in listed if isinstance(one, dict) and one.get("split") == (split or "train")]
    patterns = [text for path in paths for text in (path if isinstance(path, list) else [path])]
    return sorted({path for pattern in patterns for path in folder.glob(str(pattern)) if path.is_file()})
