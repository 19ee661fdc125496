"""What this machine has: processor, memory, disk, GPU, extras. Without psutil: the base install can say it.

Called by `edgeft doctor` and, for the memory and disk at hand, by `edgeft plan`.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import extras

CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
# The least of cgroup v2 and v1 limits counts inside a container.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
SIMD = ("avx512_bf16", "avx512f", "avx2", "asimd")


@dataclass(frozen=True)
class Gpu:
    """A CUDA device; `memory` in bytes."""

    name: str
    memory: int
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """Bytes where nothing else is said; 0 when the system does not tell."""

    python: str
    system: str
    cores: int
    simd: str
    memory: int
    memory_available: int
    disk_free: int
    gpus: tuple[Gpu, ...]
    torch: str | None  # the installed version


def look(folder: Path) -> Machine:
    """The machine as it is now; `folder` is where artifacts would lie. Imports torch, if it is there, for the GPU."""
    total, available = _memory()
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=usable_cores(),
        simd=_simd(),
        memory=total,
        memory_available=available,
        disk_free=shutil.disk_usage(folder).free,
        gpus=_gpus(),
        torch=extras.version("torch"),
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _memory() -> tuple[int, int]:
    """(total, available) bytes of RAM, a container's limit included."""
    try:
        entries = dict(line.split(":", 1) for line in MEMORY_INFO.read_text().splitlines() if ":" in line)
        total, available = (int(entries[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        try:
            total = available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError, AttributeError):
            return 0, 0
    for path in MEMORY_LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        total, available = min(total, limit), min(available, limit)
    return total, available


def _simd() -> str:
    """The widest vector instructions that matter here, or ""."""
    try:
        flags = CPU_INFO.read_text().split()
    except OSError:
        return ""
    return next((name for name in SIMD if name in flags), "")


def _gpus() -> tuple[Gpu, ...]:
    if extras.version("torch") is None:
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(Gpu(properties.name, properties.total_memory, properties.major >= 8))
    return tuple(found)


def has_cuda() -> bool:
    """Whether training would use a GPU, told without importing torch: a driver, and a torch that is not CPU-only."""
    torch = extras.version("torch")
    return NVIDIA_DRIVER.exists() and torch is not None and not torch.endswith("+cpu")


@dataclass(frozen=True)
class ExtraState:
    """An extra: what it is for, what is missing of it, and the command that installs it ("" when nothing is)."""

    name: str
    purpose: str
    missing: tuple[str, ...]

    @property
    def install(self) -> str:
        return f"pip install 'edgeft[{self.name}]'" if self.missing else ""


PURPOSES = {
    "train": "tune, merge and evaluate models",
    "gguf": "write and run GGUF files (llama.cpp)",
    "onnx": "write and run ONNX models (ONNX Runtime)",
    "harness": "the tasks of lm-eval",
    "eval": "statistics of evaluations and gates",
}


def extra_states() -> list[ExtraState]:
    return [ExtraState(name, PURPOSES[name], tuple(extras.missing(name))) for name in extras.EXTRAS]


def llama_cpp() -> dict[str, Any]:
    """Whether llama.cpp's library loads, its version and what its CPU code uses; {"loads": False, "why": …} if not."""
    if extras.version("llama-cpp-python") is None:
        return {"loads": False, "why": "not installed"}
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        return {"loads": False, "why": str(error).splitlines()[0]}
    features = llama_cpp.llama_print_system_info().decode(errors="replace")
    used = [part.split("=")[0].strip().split()[-1] for part in features.split("|") if part.strip().endswith("= 1")]
    return {"loads": True, "version": llama_cpp.__version__, "uses": used}
