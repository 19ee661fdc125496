"""ggml's own quantizer and llama.cpp's own choice of types, called in the libraries that llama-cpp-python carries.

Calls through ctypes release the interpreter's lock, so row blocks of one tensor are quantized in parallel.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMES = {"linux": "libggml-base.so", "darwin": "libggml-base.dylib", "win32": "ggml-base.dll"}
_LOG_LOCK = threading.Lock()  # llama.cpp has one log for the whole process


@functools.cache
def library() -> ctypes.CDLL:
    """ggml's base library, with the signatures of what is called here (ggml.h)."""
    import llama_cpp

    found = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / _NAMES.get(sys.platform, _NAMES["linux"])))
    found.ggml_quantize_chunk.restype = ctypes.c_size_t
    found.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    found.ggml_quantize_init.restype = None
    found.ggml_quantize_init.argtypes = [ctypes.c_int]
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


class Quantizer:
    """Quantizes row chunks to one ggml type on several threads; use as a context."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="quantize")

    def __enter__(self) -> Quantizer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def quantize(self, values: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
        """float32 [rows, width], contiguous -> the bytes of those rows in the type `name`, [rows, row_bytes]."""
        import numpy as np

        lib, number = library(), type_number(name)
        rows, width = values.shape
        out = np.empty((rows, row_bytes(name, width)), dtype=np.uint8)
        lib.ggml_quantize_init(number)
        bounds = [rows * part // self._threads for part in range(self._threads + 1)]

        def work(first: int, last: int) -> int:
            return int(
                lib.ggml_quantize_chunk(
                    number, values[first:].ctypes.data, out[first:].ctypes.data, 0, last - first, width, None
                )
            )

        parts = [(first, last) for first, last in itertools.pairwise(bounds) if last > first]
        written = sum(self._pool.map(lambda part: work(*part), parts))
        if written != out.nbytes:
            raise EdgeftError(f"ggml wrote {written} bytes of {name} where {out.nbytes} belong")
        return out


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


def dry_run(path: str, file_type: int) -> str:
    """What `llama_model_quantize` says it would do with a GGUF file; nothing is written. `EdgeftError` if it fails."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    if not hasattr(params, "dry_run"):
        raise EdgeftError("this llama-cpp-python has no dry run of its quantizer", do="pip install -U 'edgeft[gguf]'")
    params.dry_run = True
    params.ftype = file_type
    params.nthread = 1
    with log_text() as lines:
        code = llama_cpp.llama_model_quantize(path.encode(), os.devnull.encode(), ctypes.byref(params))
    text = "".join(lines)
    if code != 0:
        reason = next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
        raise EdgeftError(f"llama.cpp refuses to quantize this model: {reason.strip()}")
    return text
