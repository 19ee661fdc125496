"""What each target of a recipe was last made of, so that the next plan can say what changed since.

One small file per recipe name, `.edgeft/recipes/<name>.json`. It only explains: whether a target runs is decided by
the store.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.pipeline.events import Status
from edgeft.pipeline.fingerprint import Components
from edgeft.pipeline.locks import locked

_LAYOUT = 1


@dataclass(frozen=True)
class Attempt:
    """The last time a target was tried: of what fingerprint, and how it ended (None: it never ended, it was killed)."""

    fingerprint: str
    status: Status | None


@dataclass(frozen=True)
class Entry:
    """The components of the last whole artifact (if there was one), and the last attempt."""

    components: Components | None
    attempt: Attempt | None


class Known:
    """The entries of one recipe. A file that is absent or damaged counts as empty."""

    def __init__(self, home: Path, recipe: str) -> None:
        self._path = home / "recipes" / f"{recipe}.json"
        self._lock = home / "locks" / f"recipe-{recipe}.lock"
        self._raw = _read(self._path)

    def get(self, target: str) -> Entry:
        raw = self._raw.get(target)
        if not isinstance(raw, dict):
            return Entry(None, None)
        components, attempt = None, None
        with contextlib.suppress(KeyError, TypeError, ValueError):
            components = Components.from_json(raw["components"])
        with contextlib.suppress(KeyError, TypeError, ValueError):
            status = raw["attempt"]["status"]
            attempt = Attempt(raw["attempt"]["fingerprint"], Status(status) if status else None)
        return Entry(components, attempt)

    def started(self, target: str, fingerprint: str) -> None:
        """Note that a build begins: if nothing follows, it was killed."""
        self._update(target, {"attempt": {"fingerprint": fingerprint, "status": None}})

    def ended(self, target: str, fingerprint: str, status: Status, components: Components | None = None) -> None:
        """Note how a build (or a look-up) ended; `components` only when there is a whole artifact now."""
        change: dict[str, Any] = {"attempt": {"fingerprint": fingerprint, "status": str(status)}}
        if components is not None:
            change["components"] = components.as_json()
        raw = self._raw.get(target)
        if not isinstance(raw, dict) or any(raw.get(key) != value for key, value in change.items()):
            self._update(target, change)

    def _update(self, target: str, change: dict[str, Any]) -> None:
        with locked(self._lock):
            raw = _read(self._path)
            before = raw.get(target)
            raw[target] = {**(before if isinstance(before, dict) else {}), **change}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"layout": _LAYOUT, "targets": raw}, ensure_ascii=False)
            files.write_text(self._path, text, durable=False)
        self._raw = raw


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
        targets = raw["targets"]
        return dict(targets) if raw["layout"] == _LAYOUT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
