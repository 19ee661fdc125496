"""What the rows of a dataset artifact tell everybody who uses the model later: where they came from, and the system
message that all of them have. Put into an adapter's training.json by the `train` stage; read from there by model cards,
GGUF metadata and the commands at the end of a run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_ROW = re.compile(r"^(?P<file>.+):\d+(?!.*:\d)")  # "file:line", perhaps with a suffix


def told(dataset: Path) -> dict[str, Any]:
    """{"datasets": names of the files of the training rows, sorted, "system": their one system message or None} of a
    dataset artifact's folder. A row without a system message, or with several, means that there is not one."""
    names: set[str] = set()
    systems: set[str | None] = set()
    path = dataset / "train.jsonl"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            match = _ROW.match(str(row.get("id")))
            if match:
                names.add(match["file"])
            if len(systems) < 2:
                systems.add(_system(row.get("messages", row.get("prompt"))))
    return {"datasets": sorted(names), "system": systems.pop() if len(systems) == 1 else None}


def _system(turns: Any) -> str | None:
    """A conversation's system message, when it has one."""
    if not isinstance(turns, list):
        return None
    found = [turn.get("content") for turn in turns if isinstance(turn, dict) and turn.get("role") == "system"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) and found[0].strip() else None
