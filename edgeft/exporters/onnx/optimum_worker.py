"""Runs in the environment that has optimum-onnx: a checkpoint folder in, optimum's ONNX graph out.

A script of its own that imports nothing of edgeft: optimum-onnx pins an older transformers than edgeft trains with, so
it lives in an environment of its own, and that environment need not hold edgeft. `optimum.py` starts it:

    PYTHON optimum_worker.py CHECKPOINT FOLDER TASK TOLD

TOLD is the JSON file that says what came of it: {"versions": {...}}, or {"refused": "why"}.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

_VERSIONS = ("optimum-onnx", "optimum", "transformers", "torch")


def main(checkpoint: str, folder: str, task: str, told: str) -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from optimum.exporters.onnx import main_export

    try:
        # Validation is not asked for: it only logs what differs. edgeft runs the graph and compares it itself.
        main_export(
            model_name_or_path=checkpoint,
            output=folder,
            task=task,
            dtype="fp32",
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            do_validation=False,
        )
        done: dict[str, object] = {"versions": {name: version(name) for name in _VERSIONS}}
    except Exception as error:  # whatever optimum, transformers or torch raise is told, not traced
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        done = {"refused": lines[0] if lines else type(error).__name__}
    Path(told).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
