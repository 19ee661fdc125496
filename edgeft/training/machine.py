"""Settings of torch that belong to the process, made for a training and put back after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SMALL = 50_000_000  # parameters below which a second thread costs more than it saves


def choose_threads(asked: int | None, parameters: int) -> int:
    """`asked`, else OMP_NUM_THREADS, else 1 for a small model and all cores this process may use for others.

    The rule sees the model and the machine only, never the load: the number of threads can change the last bits of a
    sum, and the same recipe on the same machine has to give the same bytes."""
    if asked is not None:
        return asked
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    if parameters < _SMALL:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores)


@contextmanager
def steady(threads: int, seed: int) -> Iterator[None]:
    """Deterministic algorithms, a number of threads and seeded generators inside; everything as before afterwards."""
    import random

    import numpy as np
    import torch
    from transformers import set_seed

    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for on CUDA; must precede its start
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


def peak_memory() -> dict[str, int]:
    """Peak bytes of this process so far, and of the CUDA device when there is one."""
    import resource

    import torch

    found = {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        found["peak_vram"] = int(torch.cuda.max_memory_allocated())
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's memory (not the machine's) ran out."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)


def release_memory() -> None:
    """Give back what a failed attempt held on the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
