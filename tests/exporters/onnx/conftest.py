"""Exports of the tiny model with its adapter, once per session: for reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.onnx.decoder import export


@pytest.fixture(scope="session")
def exported(
    tiny_llama: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Exported]]:
    """type -> (folder, what the exporter handed back) of base and adapter, with default options."""
    done: dict[str, tuple[Path, Exported]] = {}

    def get(type_name: str, **options: Any) -> tuple[Path, Exported]:
        if type_name not in done:
            folder = tmp_path_factory.mktemp(f"onnx-{type_name}")
            source = ExportSource(tiny_llama, tiny_adapter, name="tiny-tuned", base_ref="test/tiny")
            done[type_name] = folder, export(source, type_name, folder, options)
        return done[type_name]

    return get
