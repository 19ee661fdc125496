"""llama.cpp's own converters, as oracle and as the peer in benchmarks: they come in llama-cpp-python's source package.

Used by tests/exporters/gguf and tools/bench. Nothing of it is kept in the project.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from pathlib import Path


def unpacked(scratch: Path) -> Path | None:
    """A folder with llama.cpp's source: the one EDGEFT_LLAMA_CPP names, else that of the installed llama-cpp-python's
    version, downloaded with pip and unpacked into `scratch`. None when it cannot be had."""
    given = os.environ.get("EDGEFT_LLAMA_CPP")
    if given:
        return Path(given)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
        f"llama-cpp-python=={importlib.metadata.version('llama-cpp-python')}", "--dest", str(scratch),
    ]  # fmt: skip
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        archive.extractall(scratch, filter="data")
    return next(scratch.glob("*/vendor/llama.cpp"))
