"""A classifier to a folder for ONNX Runtime: base and adapter merged, traced, quantized, compared, described.

Called by `export` for sources that end in a head for labels (see `edgeft.models.heads`). torch traces the model, which
is held whole in float32; encoders are small. Every file is opened and compared with the model in memory on built-in
texts before it is accepted; the `verify` stage does so with the recipe's rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError, InputError, MissingError, ModelError, RecipeError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.onnx import classifier_graph
from edgeft.exporters.onnx.accept import check_runs
from edgeft.exporters.onnx.classifier_files import Head, head_of, write_files
from edgeft.exporters.onnx.options import OnnxOptions, parse_options
from edgeft.exporters.onnx.trials import TEXTS
from edgeft.files import walk_files
from edgeft.models.heads import labels_of, longest
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import suggestion
from edgeft.weights.checkpoint import read_config
from edgeft.weights.threads import torch_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRAPH = "model.onnx"
TYPES = ("fp32", "fp16", "int8", "int4")
# What these exports can be asked for; the others are about decoders and their caches.
OPTIONS = {"block_size", "symmetric", "accuracy_level", "embeddings", "layout", "max_length", "threads"}
# How far a probability may be from the model's on the built-in texts. Float graphs only round; what 8 and 4 bits cost
# is for `verify` to judge on rows that mean something to the model.
_WORST = {"fp32": 1e-4, "fp16": 0.05}


def check(base: Path, type_name: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise an `InputError` when a classifier cannot be exported as this type with these options. Reads JSON only."""
    if type_name not in TYPES:
        raise InputError(f"a classifier is not exported as {type_name!r}", do=suggestion(type_name, TYPES))
    chosen = parse_options(options or {})
    for name in sorted(chosen.model_fields_set - OPTIONS):
        raise RecipeError(
            f"the ONNX option {name!r} means nothing to a classifier",
            do=f"leave it out; its options: {', '.join(sorted(OPTIONS))}",
        )
    if longest(read_config(base)) is None:
        raise ModelError("the base does not say how long a text may be", where=base / "config.json")


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `model.onnx`, labels.json, config.json, the tokenizer's files, run.py and a README.md.

    options  those of `OnnxOptions` that `OPTIONS` names
    Raises `ModelError` for what does not fit together or cannot be traced, `EdgeftError` for a graph that ONNX Runtime
    does not run, or that answers otherwise than the model.
    """
    chosen = parse_options(options)
    check(source.base, type_name, options)
    check_runs(type_name)
    _needs_onnxscript()
    labels = _labels(source)
    threads = chosen.threads or len(os.sched_getaffinity(0))
    with storage_errors(folder), torch_threads(threads):
        folder.mkdir(parents=True, exist_ok=True)
        listen(Progress(0, 3, "step", "merging in memory"))
        model = _merged(source, labels)
        head = head_of(source, model.config.to_dict(), labels, chosen.max_length)
        listen(Progress(1, 3, "step", f"tracing the {type_name} graph"))
        graph = classifier_graph.trace(model)
        graph = classifier_graph.as_type(graph, type_name, chosen, folder)
        classifier_graph.describe(graph, head.metadata())
        classifier_graph.save(graph, folder / GRAPH)
        del graph
        write_files(folder, source, head, type_name, chosen)
        listen(Progress(2, 3, "step", "comparing with the model"))
        difference = _compare(folder / GRAPH, model, head, source, type_name)
    listen(Progress(3, 3, "step", "done"))
    return Exported(_facts(source, type_name, folder, chosen, head) | {"tried": difference})


def _needs_onnxscript() -> None:
    """torch's exporter asks for it when it is half-way."""
    from importlib.util import find_spec

    if find_spec("onnxscript") is None:
        raise MissingError("this needs onnxscript", do="pip install 'edgeft[onnx]'")


def _labels(source: ExportSource) -> tuple[str, ...]:
    labels = labels_of(source.adapter or source.base)
    if labels is None:
        raise ModelError("there is no classification head here", where=source.adapter or source.base)
    if len(labels) < 2:
        raise ModelError(
            "this head gives one value (a reward) and no labels", where=source.adapter, do="open the adapter in peft"
        )
    if source.adapter is not None and labels[0] == "LABEL_0":  # an adapter of another tool: its base may know more
        known = labels_of(source.base)
        labels = known if known is not None and len(known) == len(labels) else labels
    return labels


def _merged(source: ExportSource, labels: Sequence[str]) -> Any:
    """The trained model as one, in float32 on the CPU, in eval mode."""
    from edgeft.models.identity import check_same_base, is_whole_model, read_training
    from edgeft.models.open import open_adapter, open_base

    adapter = source.adapter
    if adapter is None or is_whole_model(adapter):
        model = open_base(adapter or source.base, device="cpu", dtype="float32", labels=labels)
        if model.edgeft_started:
            raise ModelError(
                f"the checkpoint has no weights for its head ({model.edgeft_started[0]})", where=source.base
            )
        return model
    check_same_base(adapter, source.base)
    table = (read_training(adapter) or {}).get("quantization") if source.merge_base == "dequantized" else None
    how = {"quant_type": table["quant_type"], "double_quant": table["double_quant"]} if table else {}
    model = open_base(source.base, four_bit=bool(table), device="cpu", dtype="float32", labels=labels, **how)
    if any(getattr(parameter, "quant_state", None) is not None for parameter in model.parameters()):
        raise ModelError("the base is too large to be merged with a head in memory", where=source.base)
    return open_adapter(model, adapter).merge_and_unload().eval()


def _compare(graph: Path, model: Any, head: Head, source: ExportSource, type_name: str) -> dict[str, Any]:
    """Open the graph and classify built-in texts, together and one alone: how far its probabilities are from the
    model's. Raises `EdgeftError` when it does not run or a float graph is another model."""
    import numpy as np

    from edgeft.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(source.base, adapter=source.adapter)
    rows = [head.shortened(list(tokenizer(text, verbose=False)["input_ids"])) for text in TEXTS]
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), head.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row, 1
    expected = _of_torch(model, ids, mask)
    try:
        session = _session(graph)
        given = softmax(session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0])
        alone = [ids[:1, : len(rows[0])], mask[:1, : len(rows[0])]]
        single = softmax(session.run(["logits"], dict(zip(("input_ids", "attention_mask"), alone, strict=True)))[0])
    except Exception as error:  # onnxruntime raises its own classes, which derive from Exception only
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EdgeftError(
            f"ONNX Runtime cannot run the exported classifier: {lines[-1]}", do="the folder was not accepted"
        ) from None
    if given.shape != expected.shape or not (np.isfinite(given).all() and np.isfinite(single).all()):
        raise EdgeftError(f"the exported classifier gives {given.shape}, or some that are not numbers")
    furthest = float(np.abs(given - expected).max())
    if furthest > _WORST.get(type_name, 1.0):
        raise EdgeftError(
            f"the exported classifier is another model: a probability differs by {furthest:.3g}",
            do="the folder was not accepted",
        )
    same = int((given.argmax(1) == expected.argmax(1)).sum())
    return {"texts": len(rows), "furthest_probability": round(furthest, 6), "same_label": same}


def _of_torch(model: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float64]:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
    return softmax(logits.float().numpy())


def _session(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """float64[n, labels] probabilities."""
    import numpy as np

    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _facts(source: ExportSource, type_name: str, folder: Path, options: OnnxOptions, head: Head) -> dict[str, Any]:
    sizes = {name: path.stat().st_size for name, path in walk_files(folder)}
    said: dict[str, Any] = {}
    if type_name in ("int8", "int4"):
        said = {"embeddings": options.embeddings}
    if type_name == "int4":
        said |= {"block_size": options.block, "symmetric": options.symmetric, "accuracy_level": options.accuracy_level}
    return {
        "format": "onnx",
        "type": type_name,
        "task": "classification",
        "file": GRAPH,
        "size": sum(size for name, size in sizes.items() if name.startswith(GRAPH)),
        "base": source.base_ref,
        "merge_base": source.folded_into(),
        "options": said,
        "labels": list(head.labels),
        "max_length": head.max_length,
    }
