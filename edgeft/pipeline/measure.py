"""Seconds and peak memory of a stage, and a description of the machine for manifests. Standard library only."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from edgeft import __version__, extras

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Meter:
    """Measures from its making to `read`.

    On Linux the kernel's high-water mark of this process is reset first, so `peak_rss_bytes` is this stage's own peak;
    it includes what earlier stages left in memory, and no child processes. Elsewhere, or where the reset is refused,
    it is the peak since the process began: never too low, maybe too high.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        self._start = time.monotonic()

    def read(self) -> dict[str, float | int]:
        values: dict[str, float | int] = {"seconds": round(time.monotonic() - self._start, 3)}
        peak = _high_water() or _rusage_peak()
        if peak:
            values["peak_rss_bytes"] = peak
        return values


def _high_water() -> int:
    """VmHWM in bytes, or 0 where there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _rusage_peak() -> int:
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@cache
def environment() -> dict[str, Any]:
    """What may explain a difference between two machines: versions and hardware. No names, no variables, no secrets."""
    names = {name for rows in extras.EXTRAS.values() for _, name in rows} | {"pydantic"}
    versions = {name: extras.version(name) for name in sorted(names)}
    return {
        "python": platform.python_version(),
        "edgeft": __version__,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "packages": {name: version for name, version in versions.items() if version is not None},
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
