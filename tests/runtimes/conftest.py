"""The tiny model opened in every runtime, once per session: for asking, not for closing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import ExportSource
from edgeft.runtimes import open_runtime
from tests.runtimes.gguf_made import make_gguf

KINDS = ("hf", "gguf", "onnx")


@pytest.fixture(scope="session")
def tiny_gguf(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny-f32.gguf", tiny_llama)


@pytest.fixture(scope="session")
def tiny_onnx(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgeft.exporters.onnx.decoder import export

    folder = tmp_path_factory.mktemp("onnx-fp32")
    export(ExportSource(tiny_llama, name="tiny"), "fp32", folder, {})
    return folder


@pytest.fixture(scope="session")
def opened(tiny_llama: Path, tiny_gguf: Path, tiny_onnx: Path) -> Iterator[dict[str, Any]]:
    """Kind -> the tiny model, opened with one thread."""
    references = dict(zip(KINDS, (tiny_llama, tiny_gguf, tiny_onnx), strict=True))
    runtimes = {kind: open_runtime(reference, threads=1) for kind, reference in references.items()}
    yield runtimes
    for runtime in runtimes.values():
        runtime.close()


@pytest.fixture(params=KINDS)
def runtime(request: pytest.FixtureRequest, opened: dict[str, Any]) -> Any:
    """Each runtime in turn."""
    return opened[request.param]


@pytest.fixture(scope="session")
def prompts(opened: dict[str, Any]) -> list[list[int]]:
    """Conversations of different lengths, encoded, ready for an answer."""
    hf = opened["hf"]
    texts = [
        "Hi",
        "Turn the kitchen light on.",
        "a b " * 20,
        "What is 3 plus 4?",
        "Où est Anna? " * 3,
        "1",
        "{}",
        "x" * 50,
    ]
    return [hf.encode(hf.render([{"role": "user", "content": text}], add_generation_prompt=True)) for text in texts]
