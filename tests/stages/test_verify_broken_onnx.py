"""ONNX folders of a tiny model, broken on purpose: what is wrong is named as it is for GGUF files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Inputs
from edgeft.stages import export
from tests.models_made import make_llama
from tests.stages.test_verify_broken import finished, verified, work

pytestmark = pytest.mark.slow  # each takes an export and a verification
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("base") / "llama", layers=2, dtype="float32", seed=3)


@pytest.fixture(scope="module")
def shipped(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    found = {}
    for type_ in ("fp32", "int4"):
        place = work(tmp_path_factory.mktemp("export") / f"onnx-{type_}")
        params = export.Params(format="onnx", type=type_, threads=1)
        done = export.run(params, Inputs({}, {"base": base}), place)
        found[type_] = finished(place, done, "export", **params.model_dump(mode="json"))
    return found


def judged(base: Path, good: Artifact, folder: Path, change: Change | None) -> dict[str, Any]:
    """The verdict on a folder whose initializers were changed."""
    import onnx
    from onnx import numpy_helper

    place = work(folder / "broken")
    shutil.copytree(good.path, place.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("artifact.json"))
    if change is not None:
        graph = place.folder / "model.onnx"
        model = onnx.load(str(graph))
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        values = {name: numpy_helper.to_array(tensor).copy() for name, tensor in stored.items()}
        before = {name: array.copy() for name, array in values.items()}
        change(values)
        for name, array in values.items():
            if not np.array_equal(array, before[name]):
                stored[name].CopyFrom(numpy_helper.from_array(array, name))
        for path in place.folder.glob("model.onnx*"):
            path.unlink()
        onnx.save(model, str(graph), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    made = finished(place, Outcome("onnx", facts=good.facts), "export", **good.params)
    return verified(base, made, folder / "verified")


def swap(values: dict[str, Any]) -> None:
    """Rows 5 and 40 of layer 0's query matrix, in whatever the graph holds it."""
    for name, array in values.items():
        if name.startswith("model.layers.0.attn.qkv_proj.MatMul.weight"):
            by_row = array if "weight_" in name else array.T
            by_row[[5, 40]] = by_row[[40, 5]]


def turn(values: dict[str, Any]) -> None:
    """Rotary tables of the base 500000."""
    half, positions = values["sin_cache"].shape[1], len(values["sin_cache"])
    angles = np.outer(np.arange(positions), 500_000.0 ** (-np.arange(half) / half))
    values["sin_cache"], values["cos_cache"] = np.sin(angles).astype("f4"), np.cos(angles).astype("f4")


@pytest.mark.parametrize("type_", ["fp32", "int4"])
def test_whole_folders_pass_and_nothing_is_named(
    base: Path, shipped: dict[str, Artifact], type_: str, tmp_path: Path
) -> None:
    found = judged(base, shipped[type_], tmp_path, None)
    conversion = found["fidelity"]["conversion"]
    assert (conversion["settings"], conversion["tensors"]["wrong"]) == ([], [])
    assert conversion["tensors"]["read"] == 2 * 7
    assert found["named"] == []


@pytest.mark.parametrize("type_", ["fp32", "int4"])
def test_swapped_rows_in_q(base: Path, shipped: dict[str, Artifact], type_: str, tmp_path: Path) -> None:
    found = judged(base, shipped[type_], tmp_path, swap)
    assert found["named"] == [("conversion", "swapped rows in q/k")]
    assert "weights of the source" in found["failed"]
    assert "self_attn.q_proj.weight: rows 5 and 40 are swapped" in found["facts"]["notes"][0]


@pytest.mark.parametrize("type_", ["fp32", "int4"])
def test_a_wrong_rope_base(base: Path, shipped: dict[str, Artifact], type_: str, tmp_path: Path) -> None:
    found = judged(base, shipped[type_], tmp_path, turn)
    assert found["named"] == [("conversion", "wrong rope base")]
    assert "settings of the source" in found["failed"]
    assert "rope.freq_base is 500000.0, the source says 10000.0" in found["facts"]["notes"][0]
