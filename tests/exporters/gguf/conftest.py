"""Fixtures of the tests of GGUF files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import ExportSource


@pytest.fixture(scope="module")
def source(tiny_llama: Path, tiny_adapter: Path) -> ExportSource:
    return ExportSource(tiny_llama, tiny_adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens files in llama.cpp, with the logits of every token; they are closed after the test."""
    import llama_cpp

    models: list[llama_cpp.Llama] = []

    def open_file(path: Path) -> llama_cpp.Llama:
        models.append(llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1))
        return models[-1]

    yield open_file
    for model in models:
        model.close()
