"""Fixtures that several parts share. Session-wide folders are for reading: copy before writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.models_made import make_adapter, make_llama

# Before any torch or OpenMP is loaded: tests run side by side, one thread each, and reach no network.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}.items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 2-layer Llama (hidden 256, 320 tokens, tied, bf16) with tokenizer and ChatML template."""
    return make_llama(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A peft LoRA adapter of `tiny_llama` that changes its answers."""
    return make_adapter(tmp_path_factory.mktemp("adapter") / "tiny-adapter", tiny_llama)
