"""Sizes told beforehand are those of the real files, to the byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.exporters.gguf.sizes import DATASET, IMATRIX, sizes
from edgeft.exporters.gguf.types import TYPES
from edgeft.progress import silent
from tests.exporters.gguf.test_imatrix import SEARCHED, made
from tests.models_made import make_llama


def real(source: ExportSource, type_name: str, folder: Path, **options: Any) -> int:
    folder.mkdir()
    export(source, type_name, folder, {"threads": 1, **options}, silent)
    return sum(path.stat().st_size for path in folder.glob("*.gguf"))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow") / "base"
    return make_llama(folder, hidden=96, intermediate=80, head_dim=24, tied=False, dtype="float16")


def test_without_a_matrix(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    source = ExportSource(tiny_llama, tiny_adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")
    found = {sized.type: sized for sized in sizes(source)}
    assert list(found) == list(TYPES)
    assert {name for name, sized in found.items() if sized.imatrix} == {n for n, kind in TYPES.items() if kind.imatrix}
    for name in ("f32", "f16", "q8_0", "q4_k_m", "q2_k", "tq1_0", "mxfp4_moe"):
        assert found[name].bytes == real(source, name, tmp_path / name), name
        assert found[name].fallbacks == 0


def test_with_a_matrix_and_of_types_that_need_one(tiny_llama: Path, tmp_path: Path) -> None:
    """Sized as with edgeft's own matrix: its name and its dataset's are in the header."""
    from edgeft.exporters.gguf.imatrix import Imatrix, write_imatrix

    path = tmp_path / IMATRIX.name
    write_imatrix(path, Imatrix(made(tiny_llama, path).entries, (DATASET,), 7, 512))
    source = ExportSource(tiny_llama, name="tiny")
    without = {sized.type: sized.bytes for sized in sizes(source)}
    given = {sized.type: sized.bytes for sized in sizes(source, {"imatrix": path})}
    assert given["q2_k_s"] == without["q2_k_s"] == real(source, "q2_k_s", tmp_path / "a", imatrix=path)
    assert given["q4_k_m"] == real(source, "q4_k_m", tmp_path / "b", imatrix=path) != without["q4_k_m"]


@pytest.mark.slow
@pytest.mark.parametrize("type_name", list(TYPES))
def test_every_type(tiny_llama: Path, type_name: str, tmp_path: Path) -> None:
    from edgeft.exporters.gguf.imatrix import Imatrix, write_imatrix

    path = tmp_path / IMATRIX.name
    write_imatrix(path, Imatrix(made(tiny_llama, path).entries, (DATASET,), 7, 512))
    source = ExportSource(tiny_llama, name="tiny")
    options = {"imatrix": path} if TYPES[type_name].imatrix else {}
    told = {sized.type: sized.bytes for sized in sizes(source)}
    assert told[type_name] == real(source, type_name, tmp_path / "out", **options)
    assert set(SEARCHED) <= set(TYPES)


def test_config_and_tokenizer_alone_will_do(narrow: Path, tmp_path: Path) -> None:
    hollow = tmp_path / "hollow"
    shutil.copytree(narrow, hollow, ignore=shutil.ignore_patterns("*.safetensors*"))
    told = sizes(ExportSource(narrow, name="narrow"))
    assert sizes(ExportSource(hollow, name="narrow")) == told
    found = {sized.type: sized for sized in told}
    assert found["q4_k_m"].fallbacks > 0
    assert found["q4_k_m"].bytes == real(ExportSource(narrow, name="narrow"), "q4_k_m", tmp_path / "out")
    config = json.loads((hollow / "config.json").read_text())
    (hollow / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    assert {sized.type: sized.bytes for sized in sizes(ExportSource(hollow, name="narrow"))}["f16"] > found["f16"].bytes


def test_with_overrides_and_shards(narrow: Path, tmp_path: Path) -> None:
    options = {"tensor_types": {"ffn": "f16"}, "token_embedding_type": "q4_1", "max_shard_size": "60KB"}
    told = {sized.type: sized.bytes for sized in sizes(ExportSource(narrow, name="narrow"), options)}
    source = ExportSource(narrow, name="narrow")
    assert told["q8_0"] == real(source, "q8_0", tmp_path / "out", **options)
    assert len(list((tmp_path / "out").glob("*.gguf"))) > 1
    assert told["f16"] == real(source, "f16", tmp_path / "plain", max_shard_size="60KB")
