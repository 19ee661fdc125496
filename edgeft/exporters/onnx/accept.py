"""The last step of every ONNX export: sessions are opened and the graph is run, before the folder is accepted.

The builder can write files that do not load (asymmetric int4 of tied models), that load and cannot run (a head size
that is not a multiple of 16), or that fail on the second token (fp16 for CPUs), each without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError
from edgeft.exporters.onnx.pieces import Pieces
from edgeft.files import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = dict[str, NDArray[Any]]

_LENGTH = 8  # tokens of a trial without a text; the last token is also read on its own, from the cache
# How far cached and full logits may differ, as a share of the largest logit. Quantized activations (accuracy level 4)
# are rounded per block, which amplifies the last bits in which one token differs from many.
_TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8": 0.2, "int4": 0.2}
_WHOLE = 256 << 20  # bytes of weights up to which the graph is run in one session; above, piece by piece


def check_runs(type_name: str) -> None:
    """Raise an `EdgeftError` for a type that this machine's ONNX Runtime cannot try: nothing ships untried."""
    import onnxruntime

    if type_name == "bf16" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise EdgeftError(
            "ONNX Runtime runs bf16 on CUDA devices only, and this machine's has no CUDA: the file could not be tried",
            do="export it where onnxruntime-gpu is installed, or write onnx-fp16",
        )


def providers() -> list[str]:
    import onnxruntime

    known = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]


def accept(
    graph: Path,
    *,
    vocab_size: int,
    head_size: int,
    type_name: str,
    tokens: Sequence[int] = (),
    whole: int = _WHOLE,
) -> NDArray[np.float32]:
    """Open `graph`, run it once on a whole text and once with its last token read from the cache; compare both. The
    whole text's logits are handed back, float32[T, vocab_size].

    tokens  the text (default: a few ids)

    The session that is opened reads no weights; the trial runs in one session of its own, or (above `whole` bytes) in
    several, one after the other. Raises `EdgeftError` that says at which step the file fails.
    """
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = _session(graph, plain=True)
        pieces = Pieces(graph, providers())
        if sum(piece.size for piece in pieces.pieces) <= whole:
            session = _session(graph, plain=False)
    except Exception as error:  # onnxruntime raises its own classes, which derive from Exception only
        raise _refused("ONNX Runtime cannot load the exported graph", error) from None
    run = pieces.run
    if sum(piece.size for piece in pieces.pieces) <= whole:

        def run(feeds: Mapping[str, Any]) -> Values:
            return dict(zip(pieces.outputs, session.run(pieces.outputs, dict(feeds)), strict=True))

    ids = np.arange(_LENGTH, dtype=np.int64)[None] * 7 % vocab_size
    if len(tokens) > 1:
        ids = np.array([list(tokens)], dtype=np.int64)
    caches = cache_names(graph.parent)
    try:
        empty = {name: _empty(*pieces.inputs[name], head_size) for name in caches if name in pieces.inputs}
        full, _ = _read(run, pieces, ids, empty, caches)
        _, cache = _read(run, pieces, ids[:, :-1], empty, caches)
        cached, _ = _read(run, pieces, ids[:, -1:], cache, caches)
    except Exception as error:
        raise _refused("ONNX Runtime loads the exported graph and cannot run it", error) from None
    if full.shape != (*ids.shape, vocab_size) or not np.isfinite(full).all() or not np.isfinite(cached).all():
        raise EdgeftError(f"the exported graph gives logits of shape {full.shape}, or some that are not numbers")
    difference = float(np.abs(full[:, -1] - cached[:, -1]).max()) / max(float(np.abs(full).max()), 1e-6)
    if difference > _TOLERANCE[type_name]:
        raise EdgeftError(
            f"the exported graph answers differently from its cache (by {difference:.1%} of its largest logit)"
        )
    whole_text: NDArray[np.float32] = full[0]
    return whole_text


def _session(graph: Path, *, plain: bool) -> Any:
    """plain: without any work on the weights, which stay in their file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(graph), options, providers=providers())


def cache_names(folder: Path) -> dict[str, str]:
    """Input that holds the cache -> the output that is it afterwards, as `genai_config.json` names them."""
    decoder = read_json(folder / "genai_config.json")["model"]["decoder"]
    layers = range(int(decoder["num_hidden_layers"]))
    found = {}
    for key, pattern in decoder["inputs"].items():
        if key.startswith("past_") and key.endswith("_names"):
            after = decoder["outputs"]["present_" + key.removeprefix("past_")]
            found |= {pattern.replace("%d", str(layer)): after.replace("%d", str(layer)) for layer in layers}
    return found


def _read(
    run: Callable[[Mapping[str, Any]], Values],
    pieces: Pieces,
    ids: NDArray[np.int64],
    past: Values,
    caches: Mapping[str, str],
) -> tuple[NDArray[np.float32], Values]:
    """(float32[1, T, V] logits, the cache afterwards) of one run."""
    import numpy as np

    before = max((value.shape[2] for name, value in past.items() if name.endswith(".key")), default=0)
    length = ids.shape[1] + before
    named = {
        "input_ids": ids,
        "attention_mask": np.ones((1, length), dtype=np.int64),
        "position_ids": np.arange(before, length, dtype=np.int64)[None],
        **past,
    }
    given = run({name: named[name] for name in pieces.inputs if name in named})  # an adapter's are left out
    logits = np.asarray(given["logits"], dtype=np.float32)
    return logits, {name: given[after] for name, after in caches.items() if name in pieces.inputs}


def _empty(kind: int, shape: tuple[int | str, ...], head_size: int) -> NDArray[Any]:
    """A cache of no tokens, with the dimensions that the graph leaves open."""
    import numpy as np
    import onnx

    sizes = [size if isinstance(size, int) else {"b": 1, "p": 0}.get(size[0], head_size) for size in shape]
    return np.zeros(sizes, dtype=onnx.helper.tensor_dtype_to_np_dtype(kind))


def _refused(what: str, error: Exception) -> EdgeftError:
    lines = str(error).strip().splitlines()
    return EdgeftError(f"{what}: {lines[-1] if lines else type(error).__name__}", do="the folder was not accepted")
