"""How many threads a runtime uses: what it is told, what the environment says, or what suits the size of the model.

The rule looks at the model and the machine only, never at a measurement: the number of threads can change the last bits
of a sum, and the same recipe on the same machine has to give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SMALL = 50_000_000  # parameters below which handing work to other threads costs more than it saves


def choose_threads(asked: int | None, parameters: int) -> int:
    """`asked`, else OMP_NUM_THREADS, else 1 for a small model and the physical cores (half the logical) for others."""
    if asked is not None:
        return max(1, asked)
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    if parameters < _SMALL:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if cores <= 4 else max(4, cores // 2)


@contextmanager
def inference(threads: int) -> Iterator[None]:
    """torch without gradients, with that many threads (torch's is one setting for the process: it is put back)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
