"""ggml's own quantizer and llama.cpp's own choice of types, called in the libraries that llama-cpp-python carries.

Calls through ctypes release the interpreter's lock, so row blocks of one tensor are quantized in parallel (`quantize`).
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMES = {"linux": "libggml-base.so", "darwin": "libggml-base.dylib", "win32": "ggml-base.dll"}
_LOG_LOCK = threading.Lock()  # llama.cpp has one log for the whole process


def library_path() -> Path:
    """The file of ggml's base library."""
    import llama_cpp

    return Path(llama_cpp.__file__).parent / "lib" / _NAMES.get(sys.platform, _NAMES["linux"])


@functools.cache
def library() -> ctypes.CDLL:
    """ggml's base library, with the signatures of what is called here (ggml.h)."""
    found = ctypes.CDLL(str(library_path()))
    found.ggml_quantize_chunk.restype = ctypes.c_size_t
    found.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    found.ggml_quantize_init.restype = None
    found.ggml_quantize_init.argtypes = [ctypes.c_int]
    found.ggml_validate_row_data.restype = ctypes.c_bool
    found.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    found.ggml_row_size.restype = ctypes.c_size_t
    found.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    return found


def type_number(name: str) -> int:
    """ggml's number of a type ("Q4_K", in upper case)."""
    from gguf import GGMLQuantizationType

    return int(GGMLQuantizationType[name])


def row_bytes(name: str, width: int) -> int:
    """Bytes of a row of `width` values in a type."""
    return int(library().ggml_row_size(type_number(name), width))


def encoded(name: str, values: NDArray[np.float32], importance: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """float32 [rows, width], contiguous -> the bytes of those rows in the type `name`, [rows, row_bytes].

    `importance`: float32 [width], contiguous, how much an error in each column matters (the mean square of what it is
    multiplied with).
    """
    import numpy as np

    lib, number = library(), type_number(name)
    rows, width = values.shape
    out = np.empty((rows, row_bytes(name, width)), dtype=np.uint8)
    at = None if importance is None else importance.ctypes.data
    written = int(lib.ggml_quantize_chunk(number, values.ctypes.data, out.ctypes.data, 0, rows, width, at))
    if written != out.nbytes:
        raise EdgeftError(f"ggml wrote {written} bytes of {name} where {out.nbytes} belong")
    return out


def valid(name: str, data: NDArray[np.uint8]) -> bool:
    """Whether ggml finds the bytes of a type sound: no scale is infinite or not a number."""
    return bool(library().ggml_validate_row_data(type_number(name), data.ctypes.data, data.nbytes))


@contextmanager
def log_text() -> Iterator[list[str]]:
    """Collect what llama.cpp logs meanwhile (and keep it off the terminal); its Python logger is put back after."""
    import llama_cpp
    from llama_cpp import _logger

    lines: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def collect(level: int, text: bytes, data: Any) -> None:
        lines.append(text.decode("utf-8", "replace"))

    with _LOG_LOCK:
        llama_cpp.llama_log_set(collect, ctypes.c_void_p(0))
        try:
            yield lines
        finally:
            llama_cpp.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))


def dry_run(
    path: str,
    file_type: int,
    *,
    imatrix: bool = False,
    tensor_types: Sequence[tuple[str, str]] = (),
    token_embedding_type: str | None = None,
    output_tensor_type: str | None = None,
) -> str:
    """What `llama_model_quantize` says it would do with a GGUF file; nothing is written. `EdgeftError` if it fails.

    imatrix       whether it shall count on an importance matrix: some choices differ (its values do not matter here)
    tensor_types  (regular expression, ggml type in lower case), the first that is found in a tensor's name counts
    """
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    if not all(hasattr(params, field) for field in ("dry_run", "tt_overrides", "imatrix")):
        raise EdgeftError("this llama-cpp-python has no dry run of its quantizer", do="pip install -U 'edgeft[gguf]'")
    params.dry_run = True
    params.ftype = file_type
    params.nthread = 1
    if imatrix:
        params.imatrix = _imatrix_entries({"": _ONE})
    if tensor_types:
        params.tt_overrides = _overrides(tensor_types)
    if token_embedding_type:
        params.token_embedding_type = type_number(token_embedding_type.upper())
    if output_tensor_type:
        params.output_tensor_type = type_number(output_tensor_type.upper())
    with log_text() as lines:
        code = llama_cpp.llama_model_quantize(path.encode(), os.devnull.encode(), ctypes.byref(params))
    text = "".join(lines)
    if code != 0:
        reason = next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
        raise EdgeftError(f"llama.cpp refuses to quantize this model: {reason.strip()}")
    return text


_ONE = (ctypes.c_float * 1)(1.0)


def _imatrix_entries(entries: Mapping[str, Any]) -> Any:
    """llama.cpp's array of (name, values, count), ended by an empty one; `entries` are ctypes arrays of floats."""
    from llama_cpp import llama_model_imatrix_data as Entry

    found = (Entry * (len(entries) + 1))()
    for place, (name, values) in enumerate(entries.items()):
        found[place] = Entry(name.encode(), ctypes.cast(values, ctypes.POINTER(ctypes.c_float)), len(values))
    return found


def _overrides(pairs: Sequence[tuple[str, str]]) -> Any:
    from llama_cpp import llama_model_tensor_override as Override

    found = (Override * (len(pairs) + 1))()
    for place, (pattern, name) in enumerate(pairs):
        found[place] = Override(pattern.encode(), type_number(name.upper()))
    return found
