"""The record of one run: `.edgeft/runs/<id>.json`, written atomically when it starts, as targets end, and when it
ends."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError
from edgeft.pipeline.events import Reason, Status
from edgeft.pipeline.fingerprint import Components
from edgeft.pipeline.measure import environment
from edgeft.pipeline.project import Options, Project
from edgeft.pipeline.stage import Target

LAYOUT = 1
_FACTS = 4_000  # characters of facts kept in a manifest: enough for scores, not for tables
_SECRETS = (
    re.compile(r"\b(?:hf|api_org|sk|ghp|gho|github_pat|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}"),
    re.compile(r"(?i)(?<=token[:=])\s*\S+|(?<=password[:=])\s*\S+|(?<=api_key[:=])\s*\S+"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
)


class Manifest:
    """The record of a run that is going on. `id` sorts by time."""

    def __init__(self, project: Project, options: Options, order: Sequence[Target]) -> None:
        now = time.time()  # with milliseconds, so that runs of one second sort; and a little chance, for two at once
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        self.id = f"{stamp}-{int(now * 1000) % 1000:03d}{secrets.token_hex(1)}"
        self.path = project.home / "runs" / f"{self.id}.json"
        self._began = time.monotonic()
        recipe = project.recipe
        self._data: dict[str, Any] = {
            "layout": LAYOUT,
            "id": self.id,
            "recipe": recipe.name,
            "recipe_path": recipe.path,
            "recipe_digest": files.digest_text(recipe.text) if recipe.text else None,
            "recipe_text": scrub(recipe.text),
            "overrides": [scrub(text) for text in recipe.overrides],
            "options": {
                "names": list(options.names),
                "force": options.force,
                "keep_going": options.keep_going,
                "from_scratch": options.from_scratch,
            },
            "started": _now(),
            "ended": None,
            "exit_code": None,
            "environment": environment(),
            "targets": {target.name: {"stage": target.stage, "status": None} for target in order},
        }

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, self._data)

    def note(
        self,
        target: Target,
        status: Status,
        reasons: Sequence[Reason] = (),
        *,
        fingerprint: str | None = None,
        components: Components | None = None,
        artifact: Artifact | None = None,
        seconds: float | None = None,
        error: EdgeftError | None = None,
    ) -> None:
        """Set what is known of a target; `write` makes it last."""
        entry: dict[str, Any] = {
            "stage": target.stage,
            "status": str(status),
            "reasons": [{"kind": reason.kind, "text": reason.text} for reason in reasons],
            "fingerprint": fingerprint,
        }
        if seconds is not None:
            entry["seconds"] = round(seconds, 3)
        if error is not None:
            entry["error"] = {"type": type(error).__name__, "text": scrub(str(error))}
        if artifact is not None:
            entry |= {
                "artifact": artifact.path.name,
                "kind": artifact.kind,
                "digest": artifact.digest,
                "passed": artifact.passed,
                "bytes": artifact.size(),
                "facts": _small(artifact.facts),
                "measurements": dict(artifact.measurements),
            }
        if components is not None:
            entry["components"] = components.as_json()
        self._data["targets"][target.name] = entry

    def finish(self, exit_code: int) -> None:
        """Set how the run ended; `write` makes it last."""
        self._data |= {
            "ended": _now(),
            "seconds": round(time.monotonic() - self._began, 3),
            "exit_code": exit_code,
        }


def scrub(text: str) -> str:
    """A text without what looks like an access token or a password."""
    for pattern in _SECRETS:
        text = pattern.sub("[removed]", text)
    return text


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _small(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that fit; a long one is left out by name, so that scores stay when a table goes."""
    kept: dict[str, Any] = {}
    left = _FACTS
    for name, value in facts.items():
        size = len(files.canonical_json(value))
        if size <= left:
            kept[name] = value
            left -= size
    return kept
