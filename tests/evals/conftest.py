"""The tiny model in each of its forms, for tests of what asks a runtime."""

from __future__ import annotations

from tests.runtimes.conftest import opened, runtime, tiny_gguf, tiny_onnx

__all__ = ["opened", "runtime", "tiny_gguf", "tiny_onnx"]
