"""Optional dependencies by extra: what each needs, and one clear error when it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from edgeft.errors import MissingError

# extra -> (module to import, distribution on the package index); pyproject.toml is checked against it by a test.
EXTRAS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("torch", "torch"),
        ("transformers", "transformers"),
        ("peft", "peft"),
        ("trl", "trl"),
        ("bitsandbytes", "bitsandbytes"),
        ("accelerate", "accelerate"),
        ("datasets", "datasets"),
        ("datasketch", "datasketch"),
        ("jinja2", "jinja2"),
        ("jsonschema", "jsonschema"),
        ("pyarrow", "pyarrow"),
        ("safetensors", "safetensors"),
        ("sklearn", "scikit-learn"),
        ("zstandard", "zstandard"),
    ),
    "gguf": (
        ("gguf", "gguf"),
        ("llama_cpp", "llama-cpp-python"),
        ("numpy", "numpy"),
        ("torch", "torch"),
        ("bitsandbytes", "bitsandbytes"),
        ("safetensors", "safetensors"),
    ),
    "onnx": (
        ("onnx", "onnx"),
        ("onnx_ir", "onnx-ir"),
        ("onnxscript", "onnxscript"),
        ("onnxruntime", "onnxruntime"),
        ("onnxruntime_genai", "onnxruntime-genai"),
        ("transformers", "transformers"),
        ("torch", "torch"),
    ),
    "eval": (
        ("scipy", "scipy"),
        ("numpy", "numpy"),
        ("jinja2", "jinja2"),
        ("jsonschema", "jsonschema"),
        ("matplotlib", "matplotlib"),
        ("pyarrow", "pyarrow"),
        ("rouge_score", "rouge-score"),
        ("sacrebleu", "sacrebleu"),
        ("sklearn", "scikit-learn"),
    ),
    "harness": (("lm_eval", "lm-eval"),),
}


def missing(extra: str) -> list[str]:
    """Names of the distributions of an extra that are not installed. Imports none of them."""
    return [name for module, name in EXTRAS[extra] if importlib.util.find_spec(module) is None]


def require(extra: str) -> None:
    """Raise `MissingError` with the exact `pip install` when an extra is not complete."""
    absent = missing(extra)
    if absent:
        raise MissingError(f"this needs {', '.join(absent)}", do=f"pip install 'edgeft[{extra}]'")


def imported(name: str) -> ModuleType:
    """A module of an extra, imported without what it says on the way: bitsandbytes warns of a package that it would
    like to have, before anybody could have told it to be quiet. The level of its logger is put back."""
    import logging

    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return importlib.import_module(name)
    finally:
        logger.setLevel(level)


def version(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    import importlib.metadata  # here: it pulls in email, socket and zipfile, a third of `edgeft --help`

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
