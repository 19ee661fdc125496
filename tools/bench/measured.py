"""Run a piece of work in a fresh process and measure it: seconds, memory at its peak, bytes read and written (Linux).

Imported by the benchmarks beside it. The work is a Python statement, so that nothing of the parent is in its memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """`peak` is the highest resident size, `anonymous` the highest part of it that no file backs; bytes."""

    seconds: float
    cpu_seconds: float
    peak: int
    anonymous: int
    read: int
    written: int

    def row(self, name: str) -> str:
        return (
            f"{name:28} {self.seconds:7.1f} s {self.cpu_seconds:8.1f} s {self.peak / 1e6:8.0f} MB "
            f"{self.anonymous / 1e6:8.0f} MB {self.read / 1e6:8.0f} MB {self.written / 1e6:8.0f} MB"
        )


HEADER = f"{'':28} {'wall':>9} {'CPU':>10} {'peak RSS':>11} {'anonymous':>11} {'read':>11} {'written':>11}"


def measure(statement: str, *arguments: str) -> Measured:
    """Run `statement` (it may use `sys.argv[1:]`) in a new interpreter. Raises when it fails."""
    start = time.perf_counter()
    command = [sys.executable, "-c", statement + _EPILOGUE, *arguments]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = subprocess.Popen(command, stdout=said, stderr=complained)
        anonymous = 0
        while process.poll() is None:
            if _has_begun(process.pid):
                anonymous = max(anonymous, _status(process.pid, "RssAnon"))
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        said.seek(0)
        complained.seek(0)
        output = said.read().decode()
        if process.returncode:
            print(complained.read().decode()[-3000:], file=sys.stderr)
            raise SystemExit(f"the measured process ended with {process.returncode}")
    cpu, peak, read, written = output.rsplit("MEASURED", 1)[1].split()
    return Measured(seconds, float(cpu), int(peak), anonymous, int(read), int(written))


_EPILOGUE = """
import os, pathlib
_io = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
_time = os.times()
_status = pathlib.Path("/proc/self/status").read_text()  # getrusage's maximum begins with the parent's size
_peak = int(_status.partition("VmHWM:")[2].split()[0]) * 1024
print("MEASURED", _time.user + _time.system, _peak, _io["rchar"], _io["wchar"])
"""


def _has_begun(pid: int) -> bool:
    """Whether the new interpreter runs: between fork and exec a process has the memory of its parent."""
    try:
        return b"\0-c\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _status(pid: int, field: str) -> int:
    """A field of /proc/PID/status in bytes; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
