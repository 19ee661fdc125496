"""Files exported for a test, and what llama.cpp's own quantizer makes of the same model: the oracle of the bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp

from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf.export import export
from edgeft.exporters.gguf.ggml import log_text, type_number
from edgeft.exporters.gguf.imatrix import Imatrix
from edgeft.exporters.gguf.types import TYPES
from edgeft.progress import silent


def exported(source: ExportSource, type_name: str, folder: Path, **options: Any) -> tuple[Path, Exported]:
    """The file's path, and what the export says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    done = export(source, type_name, folder, {"threads": 1, **options}, silent)
    return folder / done.facts["file"], done


def requantized(
    path: Path,
    type_name: str,
    to: Path,
    imatrix: Imatrix | None = None,
    tensor_types: Mapping[str, str] | None = None,
    **named: str,
) -> bytes:
    """What llama.cpp's own quantizer makes of an unquantized file, told as its command line tells it."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[type_name].number, 2
    kept: list[Any] = []
    if imatrix is not None:
        means = {name: entry.means().reshape(-1).copy() for name, entry in imatrix.entries.items()}
        array = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()
        for place, (name, values) in enumerate(means.items()):
            pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            array[place] = llama_cpp.llama_model_imatrix_data(name.encode(), pointer, values.size)
        assert imatrix.where is not None
        keys = (llama_cpp.llama_model_kv_override * 5)()
        told: list[tuple[str, str | int]] = [
            ("quantize.imatrix.file", imatrix.where.name),
            ("quantize.imatrix.dataset", imatrix.datasets[0]),
            ("quantize.imatrix.entries_count", len(means)),
            ("quantize.imatrix.chunks_count", imatrix.chunk_count),
        ]
        for place, (key, value) in enumerate(told):
            keys[place].key = key.encode()
            if isinstance(value, str):
                keys[place].tag, keys[place].value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()
            else:
                keys[place].tag, keys[place].value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        kept += [means, array, keys]
        params.imatrix, params.kv_overrides = array, keys
    if tensor_types:
        overrides = (llama_cpp.llama_model_tensor_override * (len(tensor_types) + 1))()
        for place, (pattern, name) in enumerate(tensor_types.items()):
            overrides[place] = llama_cpp.llama_model_tensor_override(pattern.encode(), type_number(name.upper()))
        kept.append(overrides)
        params.tt_overrides = overrides
    for field, name in named.items():
        setattr(params, field, type_number(name.upper()))
    with log_text() as lines:
        code = llama_cpp.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(params))
    assert code == 0, "".join(lines)
    return to.read_bytes()
