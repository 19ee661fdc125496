"""Keep libraries from writing over our own output: their progress bars, advisory warnings and log lines.

Called by the commands that load models, before anything heavy is imported. `--debug` leaves everything as it is.
"""

from __future__ import annotations

import logging
import os
import warnings

_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BITSANDBYTES_NOWELCOME": "1",
}
_LOGGERS = ("transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes", "onnxruntime", "torch")


def quiet_libraries(*, debug: bool) -> None:
    """Silence what libraries say of themselves, unless `debug`. What the user set in the environment stays."""
    if debug:
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
