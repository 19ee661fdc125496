"""Row chunks to a ggml type on several threads, by our own kernels where they can be trusted, else by ggml.

Both give the same bytes (docs/kquants.md); which of them works is a matter of time only. Called by `writer`.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from edgeft.errors import EdgeftError, InputError, MissingError, ModelError
from edgeft.exporters.gguf import ggml
from edgeft.exporters.gguf.kquants.formats import FORMATS
from edgeft.exporters.gguf.kquants.source import Rows
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import suggestion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUANTIZERS = ("auto", "fast", "ggml")


class Quantizer:
    """Quantizes row chunks on several threads; use as a context.

    which   "auto": the kernels for the types that have one, when numba is there and the self-check passes; "fast": the
            same, and an error where "auto" would fall back; "ggml": never the kernels
    listen  is told when kernels are compiled, which takes seconds at the first use on a machine
    """

    def __init__(self, threads: int, which: str = "auto", listen: Listener = silent) -> None:
        if which not in QUANTIZERS:
            raise InputError(f"unknown quantizer {which!r}", do=suggestion(which, QUANTIZERS))
        self._threads, self._which, self._listen = threads, which, listen
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="quantize")
        self._fast: dict[str, bool] = {}
        self.notes: list[str] = []  # why ggml did what the kernels could have done

    def __enter__(self) -> Quantizer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def quantize(
        self, rows: Rows, name: str, importance: NDArray[np.float32] | None = None, *, of: str = "it"
    ) -> NDArray[np.uint8]:
        """[rows, width] -> the bytes of those rows in the type `name`, [rows, row_bytes]; see `start`."""
        return self.start(rows, name, importance, of=of)()

    def start(
        self, rows: Rows, name: str, importance: NDArray[np.float32] | None = None, *, of: str = "it"
    ) -> Callable[[], NDArray[np.uint8]]:
        """Begin to quantize, and go on: what is returned waits for the bytes of the rows, [rows, row_bytes].

        `importance`: float32 [width], how much an error in each column matters (the mean square of what it is
        multiplied with). `of`: the tensor's name, for a `ModelError` about values that the type cannot hold.
        """
        import numpy as np

        count, width = rows.data.shape
        weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
        if weights is not None and weights.shape != (width,):
            raise EdgeftError(f"an importance of {weights.size} columns for rows of {width}")
        out = np.empty((count, ggml.row_bytes(name, width)), dtype=np.uint8)
        fast = self.fast(name)
        ggml.library().ggml_quantize_init(ggml.type_number(name))
        bounds = [count * part // self._threads for part in range(self._threads + 1)]

        def work(first: int, last: int) -> None:
            if fast:
                from edgeft.exporters.gguf.kquants.run import encode

                encode(name, rows.part(first, last), weights, out[first:last], ggml.encoded)
            else:
                out[first:last] = ggml.encoded(name, rows.part(first, last).floats(), weights)
            if not ggml.valid(name, out[first:last]):
                raise ModelError(f"{of} has values that {name} cannot hold", do="export another type")

        parts = [(first, last) for first, last in itertools.pairwise(bounds) if last > first]
        begun = [self._pool.submit(work, first, last) for first, last in parts]

        def finished() -> NDArray[np.uint8]:
            for one in begun:
                one.result()
            return out

        return finished

    def fast(self, name: str) -> bool:
        """Whether our kernel does this type; compiles and checks it at the first question."""
        if name not in self._fast:
            self._fast[name] = name in FORMATS and self._which != "ggml" and self._usable(name)
        return self._fast[name]

    def _usable(self, name: str) -> bool:
        if importlib.util.find_spec("numba") is None:
            if self._which == "fast":
                raise MissingError("the fast quantizer needs numba", do="pip install 'edgeft[gguf]'")
            self._note("numba is not installed: ggml quantizes, which takes longer")
            return False
        from edgeft.exporters.gguf.kquants.compiled import ready
        from edgeft.exporters.gguf.kquants.kernels import KERNELS
        from edgeft.exporters.gguf.kquants.trust import trusted

        if not ready(KERNELS[name]):
            self._listen(Progress(0, None, "", f"compiling the {name} kernel, once on this machine"))
        if trusted(name, ggml.library_path(), ggml.encoded):
            return True
        what = f"the kernel of {name} does not give the bytes of the installed llama-cpp-python"
        if self._which == "fast":
            raise EdgeftError(what, do="take quantizer auto or ggml")
        self._note(f"{what}: ggml quantizes, which takes longer")
        return False

    def measurements(self) -> dict[str, object]:
        """What did the work, for an artifact's measurements: it does not change the file."""
        types = sorted(name.lower() for name, fast in self._fast.items() if fast)
        return {"fast_types": types} | ({"quantizer_notes": list(self.notes)} if self.notes else {})

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
