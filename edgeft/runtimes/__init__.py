"""Any artifact that can answer, opened: a Hugging Face model (with adapter, 4-bit or not), a GGUF file, an ONNX folder.

    with open_runtime("build/quickstart/export.gguf-q4_k_m") as runtime:
        runtime.generate([runtime.encode(runtime.render(messages, add_generation_prompt=True))])

The protocol is `edgeft.runtimes.protocol.Runtime`; of what ends in a classification head, and gives labels,
`edgeft.runtimes.classifier.Classifier` (`open_any`). Called by the eval and verify stages and by `edgeft chat`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.models import base as base_models
from edgeft.registry import Row, Table
from edgeft.runtimes import references

if TYPE_CHECKING:
    from edgeft.runtimes.classifier import Classifier
    from edgeft.runtimes.protocol import Runtime
    from edgeft.runtimes.reward import RewardModel

RUNTIMES: Table = {
    "hf": Row(
        "edgeft.runtimes.hf:open_hf", "a transformers model, with or without adapter, 4-bit or not", extra="train"
    ),
    "gguf": Row("edgeft.runtimes.gguf:open_gguf", "a GGUF file in llama.cpp", "gguf"),
    "onnx": Row("edgeft.runtimes.onnx:open_onnx", "an onnxruntime-genai folder in ONNX Runtime"),
}


# What gives labels instead of answers, by the kind that a reference names (see `edgeft.runtimes.classifier`).
CLASSIFIERS: Table = {
    "hf": Row(
        "edgeft.runtimes.classifier:open_classifier", "a transformers model with a classification head", extra="train"
    ),
    "onnx": Row("edgeft.runtimes.onnx_classifier:open_folder", "an exported classifier in ONNX Runtime"),
}


def open_any(
    reference: str | Path,
    *,
    base: str | Path | None = None,
    context_length: int | None = None,
    threads: int | None = None,
) -> Runtime | Classifier | RewardModel:
    """`open_runtime`, and a `Classifier` for what ends in a classification head, a `RewardModel` where it is one for
    rewards."""
    found = references.locate(reference)
    if not references.has_head(found):
        return open_runtime(reference, base=base, context_length=context_length, threads=threads)
    settings: dict[str, Any] = {"context_length": context_length, "threads": threads}
    if references.is_reward(found):
        return open_reward(_base_of(found.path, base), found.path)
    if found.kind == "adapter":
        return open_classifier(_base_of(found.path, base), found.path, **settings)
    classifier: Classifier = CLASSIFIERS[found.kind].load()(found.path, **settings)
    return classifier


def open_runtime(
    reference: str | Path,
    *,
    base: str | Path | None = None,
    context_length: int | None = None,
    threads: int | None = None,
) -> Runtime:
    """Open whatever a reference names.

    reference       `builtin:NAME`, a hub id, a folder of a base or merged model, an adapter folder, a `.gguf` file, an
                    ONNX folder, an artifact of one of these, or a link to one in `build/`
    base            the base model of an adapter (default: the one it was trained on); of an adapter as GGUF a GGUF file
                    or its folder (default: the one beside it)
    context_length  tokens at most (default and upper bound: the model's own)
    threads         CPU threads (default: OMP_NUM_THREADS, else by the model's size)

    An adapter opens as it was trained: on a 4-bit base when it was trained on one. Raises `ModelError` that says what
    was found when the reference cannot be opened, `MissingError` when the runtime's extra is not installed.
    """
    found = references.locate(reference)
    if references.is_reward(found):
        raise ModelError(
            "this is a reward model: it values answers and writes none",
            where=found.path,
            do="ask it which of two answers is better: edgeft eval --kind pairs --suite ROWS",
        )
    if references.has_head(found):
        raise ModelError(
            "this has a classification head: it gives labels and writes no answers",
            where=found.path,
            do="ask it for labels: edgeft eval --kind classification --suite ROWS",
        )
    settings: dict[str, Any] = {"context_length": context_length, "threads": threads}
    if found.kind == "adapter":
        return open_hf(_base_of(found.path, base), found.path, **settings)
    if found.kind == "hf":
        return open_hf(found.path, **settings)
    if found.kind == "lora":
        whole = references.base_gguf(found, base)
        on_base: Runtime = RUNTIMES["gguf"].load()(whole, adapter=found.path, **settings)
        return on_base
    runtime: Runtime = RUNTIMES[found.kind].load()(found.path, **settings)
    return runtime


def _base_of(adapter: Path, base: str | Path | None) -> Path:
    if base is not None:
        return base_models.resolve(str(base))
    name = references.base_of_adapter(adapter)
    try:
        return base_models.resolve(name)
    except ModelError as error:
        raise ModelError(
            f"the base model of this adapter, {name!r}, cannot be opened: {error.what}",
            where=adapter,
            do="say where it is: --base FOLDER",
        ) from None


def open_classifier(base: Path, adapter: Path | None = None, **settings: Any) -> Classifier:
    """Open local folders: see `edgeft.runtimes.classifier.open_classifier` for the settings."""
    classifier: Classifier = CLASSIFIERS["hf"].load()(base, adapter, **settings)
    return classifier


def open_reward(base: Path, adapter: Path | None = None) -> RewardModel:
    """Open local folders: see `edgeft.runtimes.reward.open_reward`."""
    from edgeft.runtimes import reward

    return reward.open_reward(base, adapter)


def open_hf(base: Path, adapter: Path | None = None, **settings: Any) -> Runtime:
    """Open local folders (for stages, whose inputs are folders): see `edgeft.runtimes.hf.open_hf` for the settings."""
    runtime: Runtime = RUNTIMES["hf"].load()(base, adapter, **settings)
    return runtime
