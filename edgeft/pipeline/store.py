"""Where artifacts lie: `.edgeft/store/<stage>-<fingerprint>/`, each whole or not there at all.

An artifact is written in a `.partial` neighbour, finished (digested, fsynced, `artifact.json` last) and renamed. A
kill at any point leaves either no artifact or a whole one; what lies about besides is taken up or cleared by the next
one who builds the same fingerprint, under a lock. Called by `plan` (look-ups, which write nothing), `build` and
`collect`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import ModelError, StorageError
from edgeft.pipeline.digests import DigestCache
from edgeft.pipeline.locks import locked

LAYOUT = 1
PARTIAL, OLD = ".partial", ".old"
_PREFIX = 16  # hex digits of the fingerprint in an entry's name; the whole one is compared on load


@dataclass(frozen=True)
class Found:
    """The outcome of a look-up: a whole artifact, or (when something is there) what is wrong with it."""

    artifact: Artifact | None
    problem: str = ""


def entry_name(stage: str, fingerprint: str) -> str:
    return f"{stage}-{fingerprint[:_PREFIX]}"


class Store:
    """The artifacts below one `.edgeft` folder. Opening it creates nothing."""

    def __init__(self, home: Path, cache: DigestCache) -> None:
        self.home = home
        self.folder = home / "store"
        self._cache = cache
        _check_layout(home)

    def path(self, stage: str, fingerprint: str) -> Path:
        return self.folder / entry_name(stage, fingerprint)

    def partial(self, stage: str, fingerprint: str) -> Path:
        return self.folder / (entry_name(stage, fingerprint) + PARTIAL)

    def scratch(self, stage: str, fingerprint: str) -> Path:
        return self.home / "scratch" / entry_name(stage, fingerprint)

    def has_scratch(self, stage: str, fingerprint: str) -> bool:
        """Whether an interrupted build left something to go on from."""
        folder = self.scratch(stage, fingerprint)
        return folder.is_dir() and any(folder.iterdir())

    def find(self, stage: str, fingerprint: str) -> Found:
        """The artifact of a fingerprint. Reads `artifact.json`, compares sizes, and hashes files whose time or inode is
        not the one remembered: an artifact that was touched is read again, one that was changed is found out."""
        return self._look(self.path(stage, fingerprint), fingerprint)

    def _look(self, folder: Path, fingerprint: str) -> Found:
        if not folder.exists():
            return Found(None)
        try:
            found = artifact.load(folder)
            problem = self._problem(found, fingerprint)
        except ModelError as error:
            problem = error.what
        except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Found(None, problem) if problem else Found(found)

    def _problem(self, found: Artifact, fingerprint: str) -> str:
        if found.fingerprint != fingerprint:
            return "artifact.json names another fingerprint"
        if found.digest != artifact.content_digest(found.kind, found.passed, found.files, found.volatile):
            return "artifact.json was changed"
        wrong = artifact.damaged(found)
        if not wrong:
            wrong = [name for name, entry in found.files.items() if self._changed(found.path / name, entry)]
        return f"{', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}"

    def _changed(self, path: Path, entry: Mapping[str, Any]) -> bool:
        return bool(self._cache.digest(path) != entry["sha256"])

    @contextlib.contextmanager
    def lock(self, stage: str, fingerprint: str, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Hold the lock of one fingerprint; yields whether another process held it first."""
        with locked(self.home / "locks" / (entry_name(stage, fingerprint) + ".lock"), waiting) as waited:
            yield waited

    def take_up(self, stage: str, fingerprint: str) -> None:
        """Finish what a kill interrupted between "finished" and "in place". Needs the lock."""
        final, partial = self.path(stage, fingerprint), self.partial(stage, fingerprint)
        old = final.with_name(final.name + OLD)
        if self._look(partial, fingerprint).artifact is not None:
            self._put(partial, final)
        elif old.exists() and not final.exists():
            old.rename(final)
        files.remove_tree(old)

    def begin(self, stage: str, fingerprint: str, *, fresh: bool) -> tuple[Path, Path]:
        """An empty work folder and the scratch folder (emptied too when `fresh`). Needs the lock."""
        self._create()
        partial, scratch = self.partial(stage, fingerprint), self.scratch(stage, fingerprint)
        files.remove_tree(partial)
        if fresh:
            files.remove_tree(scratch)
        partial.mkdir()
        scratch.mkdir(parents=True, exist_ok=True)
        return partial, scratch

    def abandon(self, stage: str, fingerprint: str) -> None:
        """Remove the work folder of a build that failed; the scratch folder stays if there is something in it."""
        with contextlib.suppress(OSError):
            files.remove_tree(self.partial(stage, fingerprint))
        with contextlib.suppress(OSError):
            self.scratch(stage, fingerprint).rmdir()

    def commit(
        self,
        outcome: Outcome,
        measurements: Mapping[str, Any],
        *,
        stage: str,
        fingerprint: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> Artifact:
        """Finish the work folder with these measurements and put it in place; the scratch folder goes. Needs the
        lock."""
        partial, final = self.partial(stage, fingerprint), self.path(stage, fingerprint)
        artifact.finish(
            partial,
            replace(outcome, measurements=measurements),
            stage=stage,
            fingerprint=fingerprint,
            params=params,
            inputs=inputs,
            environment=environment,
        )
        self._put(partial, final)
        self.tidy(stage, fingerprint)
        done = artifact.load(final)
        for name, entry in done.files.items():
            self._cache.learn(done.path / name, str(entry["sha256"]))
        return done

    def tidy(self, stage: str, fingerprint: str) -> None:
        """Remove what a kill left beside an artifact that is in place. Needs the lock."""
        final = self.path(stage, fingerprint)
        files.remove_tree(self.partial(stage, fingerprint))
        files.remove_tree(final.with_name(final.name + OLD))
        files.remove_tree(self.scratch(stage, fingerprint))

    def _put(self, partial: Path, final: Path) -> None:
        """Rename a finished folder into place; what was there (damaged, or built again on purpose) makes room."""
        old = final.with_name(final.name + OLD)
        if final.exists():
            files.remove_tree(old)
            final.rename(old)
        partial.rename(final)
        files.sync_folder(self.folder)
        files.remove_tree(old)

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.home / "layout"
        if not mark.exists():
            files.write_text(mark, f"{LAYOUT}\n")
        ignore = self.home / ".gitignore"
        if not ignore.exists():
            files.write_text(ignore, "*\n")


def _check_layout(home: Path) -> None:
    """Refuse a store that a later edgeft arranged in a way this one does not know, and a home that is no folder."""
    if home.exists() and not home.is_dir():
        raise StorageError("a file is where edgeft's folder should be", where=home, do="move it away and run again")
    try:
        text = (home / "layout").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    if text != str(LAYOUT):
        raise StorageError(
            f"this folder was written by another version of edgeft (layout {text[:20]!r}, known: {LAYOUT})",
            where=home,
            do="use that version, or move the folder away",
        )


def link(root: Path, recipe: str, target: str, folder: Path) -> Path | None:
    """Point `build/<recipe>/<target>` at an artifact, atomically, by a relative link. Returns the link's path when it
    was changed, None when it pointed there already."""
    place = root / "build" / recipe / target
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(folder.resolve(), place.parent.resolve())  # a link is followed from where it really lies
    if place.is_symlink() and str(place.readlink()) == wanted:
        return None
    if place.exists() and not place.is_symlink():
        raise StorageError("something that is not a link is in the way", where=place, do="move it away and run again")
    temporary = place.with_name(f".{target}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(wanted, target_is_directory=True)
    temporary.replace(place)
    files.sync_folder(place.parent)
    return place


def unlink(root: Path, recipe: str, target: str) -> Path | None:
    """Take a target's link away; returns its path when there was one."""
    place = root / "build" / recipe / target
    if not place.is_symlink():
        return None
    place.unlink()
    files.sync_folder(place.parent)
    return place
