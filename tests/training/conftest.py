from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.made import make_dataset
from tests.training.rows_made import make_rows


@pytest.fixture(scope="session")
def tiny_dataset(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 household rows, 8 of them validation, tokenized for `tiny_llama`."""
    return make_dataset(tmp_path_factory.mktemp("dataset") / "made", tiny_llama)


@pytest.fixture(scope="session")
def packed_dataset(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("packed") / "made", tiny_llama, sample_packing=True, sequence_len=256)


@pytest.fixture(scope="session")
def datasets(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of each form of rows that is not language."""
    place = tmp_path_factory.mktemp("rows")
    kinds = ("preference", "unpaired_preference", "prompts", "classification")
    return {form: make_rows(place / form, form, tiny_llama) for form in kinds}
