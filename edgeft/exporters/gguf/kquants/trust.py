"""Whether a kernel gives the bytes of the ggml library that is installed: tried once, then known. Called by `quantize`.

The algorithm may change with llama.cpp, and a compiler may round otherwise (an ARM build that fuses multiplications
and additions does). The outcome is kept per type, digest of the library, processor, and version of the kernels.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.exporters.gguf.kquants import cache
from edgeft.files import digest_file, digest_text, write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.exporters.gguf.kquants.run import Exact

BLOCKS = 3000  # of 256 values, in each mode
_WIDTH = 1024


def trusted(name: str, library: Path, exact: Exact) -> bool:
    """Whether our bytes of the type `name` are those of `library`, whose quantizer is `exact`."""
    from edgeft.exporters.gguf.kquants.compiled import processor

    key = digest_text(f"{digest_file(library)} {processor()}")[:16]
    path = cache.folder() / f"checked-{key}.json"
    known = _known(path)
    if name not in known:
        known[name] = agrees(name, exact)
        with contextlib.suppress(OSError):
            write_text(path, json.dumps({**_known(path), name: known[name]}, indent=1, sort_keys=True))
    return known[name]


def _known(path: Path) -> dict[str, bool]:
    try:
        found = json.loads(path.read_text())
        return {name: value for name, value in found.items() if isinstance(value, bool)}
    except (OSError, ValueError, AttributeError):
        return {}


def agrees(name: str, exact: Exact) -> bool:
    """Compare a few thousand fixed blocks, without and with an importance matrix."""
    import numpy as np

    from edgeft.exporters.gguf.kquants.run import encode
    from edgeft.exporters.gguf.kquants.source import Rows

    for values, importance in cases():
        theirs = exact(name, values, importance).reshape(-1)
        ours = np.empty_like(theirs)
        encode(name, Rows(values), importance, ours, exact)
        if not np.array_equal(ours, theirs):
            return False
    return True


def cases() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
    """Values as weights have them, with long tails, of very different sizes, and with odd blocks among them."""
    import numpy as np

    generator = np.random.default_rng(20240607)
    rows = BLOCKS * 256 // _WIDTH // 3
    plain = generator.standard_normal((rows, _WIDTH), dtype=np.float32) * np.float32(0.02)
    tails = (generator.standard_t(2, (rows, _WIDTH)) * 0.01).astype(np.float32)
    sizes = np.exp2(generator.integers(-30, 30, (rows, _WIDTH // 32))).astype(np.float32)
    mixed = generator.standard_normal((rows, _WIDTH), dtype=np.float32) * np.repeat(sizes, 32, axis=1)
    values = np.concatenate([plain, tails, mixed])
    values[1::97, :256] = 0
    values[2::97, 32:64] = np.float32(0.5)
    values[3::97, 100] = np.float32(1e30)
    values[4::97, 512:] *= np.float32(1e-38)
    importance = generator.gamma(0.5, 1.0, _WIDTH).astype(np.float32)
    importance[7:23] = 0
    yield values, None
    yield values, importance
