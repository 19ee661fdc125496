"""The curve for TensorBoard: a local folder, always written, never part of the result. Used by
`edgeft.training.trainer`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"


def keep_board(scratch: Path, folder: Path) -> None:
    """Put what was written while training beside the result."""
    if (scratch / FOLDER).is_dir():
        shutil.copytree(scratch / FOLDER, folder / FOLDER, dirs_exist_ok=True)


class Board:
    """Scalars of the Trainer's history, written as they come; nothing without the package tensorboard."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / FOLDER))

    def add(self, entry: Mapping[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in entry.items():
            if isinstance(value, (int, float)) and name not in ("step", "epoch"):
                self._writer.add_scalar(name, float(value), int(entry["step"]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
