"""A graph run in pieces against the same graph in one session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import EdgeftError
from edgeft.exporters.onnx import pieces
from edgeft.exporters.onnx.accept import accept
from edgeft.exporters.onnx.pieces import Pieces

CPU = ["CPUExecutionProvider"]


@pytest.mark.parametrize("type_name", ["fp32", "int4"])
@pytest.mark.parametrize("limit", [1, 100_000, 1 << 30])
def test_the_same_logits_and_cache(type_name: str, limit: int, exported: Any) -> None:
    """Limit 1: each weight is a piece of its own, and float products are computed in slices."""
    import onnxruntime

    graph = exported(type_name)[0] / "model.onnx"
    split = Pieces(graph, CPU, limit)
    assert (len(split.pieces) == 1) == (limit == 1 << 30)
    ids = np.arange(5, dtype=np.int64)[None]
    given = {"input_ids": ids, "attention_mask": np.ones((1, 5), np.int64), "position_ids": ids}
    given |= {name: np.zeros((1, 2, 0, 64), np.float32) for name in split.inputs if name.startswith("past")}
    feeds = {name: given[name] for name in split.inputs}
    found = split.run(feeds)
    session = onnxruntime.InferenceSession(graph, providers=CPU)
    for name, expected in zip(split.outputs, session.run(split.outputs, feeds), strict=True):
        assert np.abs(found[name] - expected).max() < 1e-4, name


def test_the_trial_in_pieces_finds_weights_that_are_not_numbers(
    exported: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    import shutil

    monkeypatch.setattr(pieces, "_LIMIT", 1)
    folder = shutil.copytree(exported("fp32")[0], tmp_path / "copy")
    accept(folder / "model.onnx", vocab_size=320, head_size=64, type_name="fp32", whole=0)
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:1000] + b"\x00\x00\x80\x7f" * 5000 + data.read_bytes()[21_000:])
    with pytest.raises(EdgeftError, match="not numbers"):
        accept(folder / "model.onnx", vocab_size=320, head_size=64, type_name="fp32", whole=0)
