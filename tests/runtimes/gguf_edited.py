"""A GGUF file written again with something wrong in it, by the gguf package alone: what broken exporters ship."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any


def edited(
    path: Path,
    out: Path,
    *,
    drop: Collection[str] = (),
    put: Mapping[str, Any] | None = None,
    tensor: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Path:
    """Copy `path` to `out` without the settings `drop`, with those of `put`, and with tensors' raw rows (quantized ones
    as bytes) changed by a function."""
    import gguf

    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    changed = dict(put or {})
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in drop:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, changed.pop(name, field.contents()), kind, inner)
    assert not changed, "a setting that the file does not have"
    for stored in reader.tensors:
        data = stored.data
        if tensor and stored.name in tensor:
            data = tensor[stored.name](data.copy())
        writer.add_tensor(stored.name, data, raw_dtype=stored.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def swapped(first: int, second: int) -> Callable[[Any], Any]:
    """Exchange two rows."""

    def change(data: Any) -> Any:
        data[[first, second]] = data[[second, first]]
        return data

    return change
