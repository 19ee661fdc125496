"""A long text in the windows of llama.cpp's perplexity tool, so that figures are those that the tool prints.

The text is cut into windows of `size` tokens, a remainder is left out; where the tokenizer adds BOS to texts, the first
token of each window is replaced by it; the second half of each window is scored, each token given all before it in the
window (tools/perplexity of llama.cpp: `first = n_ctx / 2`, the logits of positions first to n_ctx - 2). Used by
`tools/bench/perplexity.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgeft.errors import InputError
from edgeft.evals.divergence import compare
from edgeft.evals.evaluate import Encoded, answer_losses
from edgeft.progress import Listener, silent
from edgeft.runtimes.protocol import Runtime


def windows(ids: Sequence[int], size: int, bos: int | None = None) -> list[tuple[str, Encoded]]:
    """The windows of a text's token ids (with BOS in front when the tokenizer adds it); `bos` replaces each first one.
    The answer of a window is what is scored. An `InputError` for fewer tokens than two windows hold, as the tool."""
    if len(ids) < 2 * size:
        raise InputError(f"the text has {len(ids)} tokens, two windows of {size} take {2 * size}")
    found = []
    for number in range(len(ids) // size):
        window = list(ids[number * size : (number + 1) * size])
        if bos is not None:
            window[0] = bos
        found.append((f"window {number + 1}", Encoded(window[:1], window, size // 2 + 1, size)))
    return found


def perplexity(runtime: Runtime, rows: Sequence[tuple[str, Encoded]]) -> float:
    """e to the mean negative log likelihood of the scored tokens."""
    nats = sum(loss for _, loss in answer_losses(runtime, [item for _, item in rows]))
    return math.exp(nats / sum(item.end - item.start for _, item in rows))


def divergence(
    reference: Runtime, candidate: Runtime, rows: Sequence[tuple[str, Encoded]], listen: Listener = silent
) -> dict[str, Any]:
    """The figures of the tool's --kl-divergence: over scored positions only (see `edgeft.evals.divergence`)."""
    figures: dict[str, Any] = compare(reference, candidate, rows, listen).as_json()["answer"]
    return figures
