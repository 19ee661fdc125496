"""The table of mixes against llama.cpp's own choice: every type, with and without an importance matrix, on shapes that
reach every rule."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.export import parts_of
from edgeft.exporters.gguf.layout import ask, prepared
from edgeft.exporters.gguf.sizes import Shaped, _hollow
from edgeft.exporters.gguf.types import TYPES
from edgeft.exporters.gguf.wanted import Wanted
from edgeft.models import mixes
from edgeft.models.shapes import gguf_type, shape_of
from edgeft.weights.checkpoint import read_config
from tests.models_made import make_llama

NAMES = {
    "embed_tokens": "token_embd", "lm_head": "output", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
    "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip


def test_the_table_is_of_all_types() -> None:
    assert set(mixes.USUAL) == set(TYPES)
    assert set(mixes.PLAIN) == {name for name, kind in TYPES.items() if kind.plain}
    assert set(mixes.NEED_IMATRIX) == {name for name, kind in TYPES.items() if kind.imatrix}
    from edgeft.exporters.gguf.ggml import row_bytes

    for name, (size, weights) in mixes.BLOCKS.items():
        assert row_bytes(name, weights) == size


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": 16, "heads": 4, "kv_heads": 1, "tied": False},
        {"layers": 16, "heads": 4, "kv_heads": 2, "tied": True},
        {"layers": 17, "heads": 4, "kv_heads": 4, "tied": False, "hidden": 192, "intermediate": 320, "head_dim": 48},
        {"layers": 8, "heads": 2, "kv_heads": 2, "tied": True, "hidden": 96, "intermediate": 80, "head_dim": 48},
    ],
    ids=["grouped", "tied", "narrow", "odd"],
)
def test_llama_cpp_chooses_so(settings: dict[str, Any], tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", **{"intermediate": 256, **settings, "layers": 1})
    config = read_config(base)
    deep = {**config, "num_hidden_layers": settings["layers"]}
    deep.pop("layer_types", None)
    (base / "config.json").write_text(json.dumps(deep))
    parts = parts_of(ExportSource(base), TYPES["f16"], None, _hollow(base))
    assert all(isinstance(getattr(tensor, "base", tensor), Shaped) for tensor in parts.tensors.values())
    shape = shape_of(str(base))
    assert shape is not None
    tensors = [tensor for tensor in shape.tensors() if not tensor.vector]
    with prepared(parts.arch, parts.metadata, parts.tensors, tmp_path) as path:
        for kind in TYPES.values():
            for imatrix in (False, True):
                if kind.plain or (kind.imatrix and not imatrix):
                    continue
                theirs = ask(path, kind, parts.tensors, Wanted(imatrix=Path("x") if imatrix else None)).types
                for tensor in tensors:
                    layer = "" if tensor.layer is None else f"blk.{tensor.layer}."
                    found = gguf_type(shape, tensor, f"gguf-{kind.name}", imatrix=imatrix)
                    assert found == theirs[f"{layer}{NAMES[tensor.role]}.weight"], (kind.name, imatrix, tensor.name)


def test_a_shape_is_frozen() -> None:
    """What the table is asked of cannot change between two answers."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixes.Place("output", 1).columns = 2  # type: ignore[misc]
