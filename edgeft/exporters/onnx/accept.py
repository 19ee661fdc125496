"""The last step of every ONNX export: a session is opened and the graph is run, before the folder is accepted.

The builder can write files that do not load (asymmetric int4 of tied models), that load and cannot run (a head size
that is not a multiple of 16), or that fail on the second token (fp16 on CPUs), each without an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LENGTH = 8  # tokens of the trial text; the last is also read on its own, from the cache
# How far cached and full logits may differ, as a share of the largest logit. Quantized activations (accuracy level 4)
# are rounded per block, which amplifies the last bits in which one token differs from many.
_TOLERANCE = {"fp32": 1e-4, "int8": 0.2, "int4": 0.2}


def accept(graph: Path, *, vocab_size: int, head_size: int, type_name: str) -> None:
    """Run `graph` once on a whole text and once with its last token read from the KV cache; compare both.

    Raises `EdgeftError` that says at which step the file fails.
    """
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, which derive from Exception only
        raise _refused("ONNX Runtime cannot load the exported graph", error) from None
    ids = np.arange(_LENGTH, dtype=np.int64)[None] * 7 % vocab_size
    try:
        empty = _empty_cache(session, head_size)
        full, _ = _run(session, ids, empty)
        _, cache = _run(session, ids[:, :-1], empty)
        cached, _ = _run(session, ids[:, -1:], cache)
    except Exception as error:
        raise _refused("ONNX Runtime loads the exported graph and cannot run it", error) from None
    if full.shape != (1, _LENGTH, vocab_size) or not np.isfinite(full).all() or not np.isfinite(cached).all():
        raise EdgeftError(f"the exported graph gives logits of shape {full.shape}, or some that are not numbers")
    difference = float(np.abs(full[:, -1] - cached[:, -1]).max()) / max(float(np.abs(full).max()), 1e-6)
    if difference > _TOLERANCE[type_name]:
        raise EdgeftError(
            f"the exported graph answers differently from its cache (by {difference:.1%} of its largest logit)"
        )


def _run(
    session: Any, ids: NDArray[np.int64], past: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """(float32[1, T, V] logits, the cache afterwards) of one run."""
    import numpy as np

    length = ids.shape[1] + next(iter(past.values())).shape[2]
    named = {
        "input_ids": ids,
        "attention_mask": np.ones((1, length), dtype=np.int64),
        "position_ids": np.arange(length - ids.shape[1], length, dtype=np.int64)[None],
        **past,
    }
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {entry.name: named[entry.name] for entry in session.get_inputs()})
    by_name = dict(zip(names, values, strict=True))
    logits = np.asarray(by_name.pop("logits"), dtype=np.float32)
    return logits, {name.replace("present", "past_key_values"): value for name, value in by_name.items()}


def _empty_cache(session: Any, head_size: int) -> dict[str, NDArray[Any]]:
    import numpy as np

    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    return {
        entry.name: np.zeros((1, entry.shape[1], 0, head_size), dtype=kinds[entry.type])
        for entry in session.get_inputs()
        if entry.name.startswith("past_key_values")
    }


def _refused(what: str, error: Exception) -> EdgeftError:
    lines = str(error).strip().splitlines()
    return EdgeftError(f"{what}: {lines[-1] if lines else type(error).__name__}", do="the folder was not accepted")
