from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.made import make_dataset


@pytest.fixture(scope="session")
def tiny_dataset(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 household rows, 8 of them validation, tokenized for `tiny_llama`."""
    return make_dataset(tmp_path_factory.mktemp("dataset") / "made", tiny_llama)


@pytest.fixture(scope="session")
def packed_dataset(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("packed") / "made", tiny_llama, sample_packing=True, sequence_len=256)
