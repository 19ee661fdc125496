"""A checkpoint read on demand: parameter name -> deferred tensor, with an adapter folded in as each is read.

The one way weights leave: the merged checkpoint, GGUF and ONNX are written from a `Weights`, so memory is bounded in
one place and every format gets the same bits. `open_weights` is the door; `Deferred` says what a tensor can do.
"""

from __future__ import annotations

from edgeft.weights.deferred import Deferred, Weights
from edgeft.weights.merged import MERGE_BASES, open_base, open_weights, quantization

__all__ = ["MERGE_BASES", "Deferred", "Weights", "open_base", "open_weights", "quantization"]
