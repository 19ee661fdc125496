"""onnxruntime-genai's model builder, called as a library: quietly, offline, the same bytes for the same weights.

One function, used by `decoder`. The builder prints, draws bars, changes the root logger and `sys.path`, and stamps the
git commit of whatever repository it happens to be installed under into the graph; all of that is held back here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, ModelError, storage_errors
from edgeft.exporters.onnx.fitting import fit
from edgeft.exporters.onnx.streamed import streamed
from edgeft.models.quiet import quiet
from edgeft.weights import Weights


def build(
    checkpoint: Path,
    folder: Path,
    *,
    precision: str,
    options: Sequence[str],
    cache: Path,
    provider: str = "cpu",
    weights: Weights | None = None,
    table: bool = False,
) -> None:
    """Write `model.onnx`, its data file, `genai_config.json` and tokenizer files into `folder`.

    checkpoint  a transformers checkpoint (safetensors); precision: "fp32", "int8", "int4", …; options: KEY=VALUE
    cache       an empty folder for the builder's temporary files
    provider    the execution provider that the graph is made for: "cpu", "cuda", "dml", "webgpu"
    weights     streamed: the values, while `checkpoint` has config and tokenizer only. None: the builder reads them
    table       streamed: see `streamed`
    Raises `ModelError` for an architecture the builder does not know, `EdgeftError` with its last words otherwise.
    """
    said = io.StringIO()
    with _held_back(said) as builder, storage_errors(folder):
        try:
            parsed = builder.parse_extra_options(
                str(checkpoint), str(checkpoint), str(folder), precision, provider, str(cache), list(options)
            )
            fit(parsed["hf_details"]["hf_config"])
            with contextlib.nullcontext() if weights is None else streamed(builder.Model, weights, cache, table=table):
                cache.mkdir(parents=True, exist_ok=True)
                builder.create_model(
                    str(checkpoint), str(checkpoint), str(folder), precision, provider, str(cache), **parsed
                )
        except NotImplementedError as error:
            raise ModelError(
                f"onnxruntime-genai's builder does not know this architecture ({_first_line(error)})",
                where=checkpoint / "config.json",
                do="export GGUF instead",
            ) from None
        except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, AssertionError) as error:
            own = _own_error(error)
            if own is not None:
                raise own from None
            raise EdgeftError(f"onnxruntime-genai's builder failed: {_first_line(error)}") from error


@contextlib.contextmanager
def _held_back(said: io.StringIO) -> Iterator[Any]:
    """The builder's module, with its output in `said` and its changes to the process undone afterwards."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, list(sys.path), logging.root.manager.disable)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            logging.disable(logging.ERROR)  # "Gather only supports 4 bits quantization" is logged as an error
            from onnxruntime_genai import models

            sys.path.append(str(Path(models.__file__).parent))  # the builder imports its neighbours by bare names
            from onnxruntime_genai.models import builder

            with _without_commit(builder.Model), quiet():
                yield builder
        finally:
            root.handlers[:], level, sys.path[:], disabled = before
            root.setLevel(level)
            logging.disable(disabled)


@contextlib.contextmanager
def _without_commit(model: Any) -> Iterator[None]:
    """Keep the commit of the surrounding git repository out of the graph's `producer_version`."""
    before = model.__dict__["get_genai_commit"]
    model.get_genai_commit = classmethod(lambda _: None)
    try:
        yield
    finally:
        model.get_genai_commit = before


def _own_error(error: BaseException | None) -> Exception | None:
    """An error of ours, or of the disk, that a library has wrapped in its own while our weights were read."""
    while error is not None:
        if isinstance(error, EdgeftError | OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
