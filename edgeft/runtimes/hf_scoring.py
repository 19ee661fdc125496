"""Log-likelihoods with a transformers model: trees of requests in one padded batch, logits only where something is
scored. Used by `edgeft.runtimes.hf` only.

What a token of a tree may see is written as a 4D attention mask, which models of full attention take as it is. Models
with other layers (sliding windows, recurrent states) read each request by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.runtimes.protocol import Likelihood, Request
from edgeft.runtimes.scoring import Tree, batches, trees

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_TREE_TOKENS = 1024  # of one tree: attention over a tree costs its square
_LOGITS = 1 << 25  # floats (128 MB) of logits that are computed at once
_ROWS = 256


def may_share(model: Any) -> bool:
    """Whether every layer attends to all that the mask allows, so that a tree's mask says everything."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"} or getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
        return False
    return getattr(config, "sliding_window", None) is None or not getattr(config, "use_sliding_window", True)


def score(
    model: Any,
    requests: Sequence[Request],
    *,
    vocab_size: int,
    batch_tokens: int,
    share: bool,
    on_done: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """The likelihood of each request's continuation, in the order of the requests. `share`: see `may_share`."""
    found: dict[int, Likelihood] = {}
    laid = trees(requests, _TREE_TOKENS, share=share)
    for batch in batches(laid, batch_tokens, _ROWS):
        found |= _batch(model, batch, requests, vocab_size)
        if on_done is not None:
            on_done(sum(len(tree.paths) for tree in batch))
    return [found[number] for number in range(len(requests))]


def _batch(model: Any, batch: Sequence[Tree], requests: Sequence[Request], vocab_size: int) -> dict[int, Likelihood]:
    """The likelihoods of all requests of some trees, by their number."""
    import torch

    places: dict[tuple[int, int], int] = {}  # (tree, token whose logits are needed) -> its number among those needed
    pairs: list[tuple[int, int]] = []  # (number of the place, target) of every scored token
    for row, tree in enumerate(batch):
        for number, path in tree.paths:
            prefix, continuation = requests[number]
            for at, target in zip(path[len(prefix) - 1 :], continuation, strict=True):
                pairs.append((places.setdefault((row, at), len(places)), target))
    size = max(1, _LOGITS // vocab_size)
    best, chosen = [], torch.empty(len(pairs), dtype=torch.float32)
    place_of, target_of = (torch.tensor(column) for column in zip(*pairs, strict=True))
    for number, logits in enumerate(_logits(model, _inputs(batch, model.device), list(places), size)):
        said = torch.log_softmax(logits, dim=-1)
        best.append(said.argmax(dim=-1))
        here = (place_of >= number * size) & (place_of < (number + 1) * size)
        chosen[here] = said[place_of[here] - number * size, target_of[here]]
    logprobs = chosen.tolist()
    greedy = (torch.cat(best)[place_of] == target_of).tolist()
    found: dict[int, Likelihood] = {}
    at = 0
    for tree in batch:
        for number, _ in tree.paths:
            end = at + len(requests[number][1])
            found[number] = Likelihood(tuple(logprobs[at:end]), all(greedy[at:end]))
            at = end
    return found


def _inputs(batch: Sequence[Tree], device: Any) -> dict[str, torch.Tensor]:
    """input_ids and position_ids int64[B, T], padded on the right; a mask bool[B, 1, T, T] only if a tree branches."""
    import torch

    width = max(len(tree) for tree in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    positions = torch.zeros_like(ids)
    for row, tree in enumerate(batch):
        ids[row, : len(tree)] = torch.tensor(tree.ids)
        positions[row, : len(tree)] = torch.tensor(tree.depths)
    inputs = {"input_ids": ids.to(device), "position_ids": positions.to(device)}
    if all(len(tree.paths) == 1 for tree in batch):
        inputs["position_ids"] = torch.arange(width, device=device).expand(len(batch), width)
        return inputs  # causal: no token sees the padding behind it
    mask = torch.from_numpy(_mask(batch, width))
    return inputs | {"attention_mask": mask[:, None].to(device)}


def _mask(batch: Sequence[Tree], width: int) -> NDArray[np.bool_]:
    """bool[B, T, T]: what each token of each tree sees, itself and its ancestors. Padding sees itself: no row of a mask
    may be empty."""
    import numpy as np

    mask = np.zeros((len(batch), width, width), dtype=np.bool_)
    mask[:, np.arange(width), np.arange(width)] = True
    longest = max((len(path) for tree in batch for _, path in tree.paths), default=0)
    lower = np.tri(longest, dtype=np.bool_)
    for row, tree in enumerate(batch):
        known = 0  # tokens whose rows are written
        for _, path in tree.paths:
            index = np.asarray(path)
            first = int(np.searchsorted(index, known))  # a path's tokens ascend: those it shares come first
            mask[row, index[first:, None], index] = lower[first : len(index), : len(index)]
            known = len(index) and int(index[-1]) + 1
    return mask


def _logits(
    model: Any, inputs: dict[str, torch.Tensor], wanted: Sequence[tuple[int, int]], size: int
) -> Iterator[torch.Tensor]:
    """float32[K, V] logits at (row, token) places, `size` at a time, on the CPU: the output layer is given the hidden
    states of those places only, so the others' logits are never computed, and the layers below run once."""
    import torch

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    rows, tokens = (torch.tensor(column, device=model.device) for column in zip(*wanted, strict=True))
    kept: list[Any] = []
    keeping = decoder.register_forward_hook(lambda _module, _arguments, output: kept.append(output))
    for first in range(0, len(wanted), size):
        here = slice(first, first + size)

        def select(_: Any, arguments: tuple[Any, ...], here: slice = here) -> tuple[Any, ...]:
            return (arguments[0][rows[here], tokens[here]].unsqueeze(0), *arguments[1:])

        hook = head.register_forward_pre_hook(select)
        try:
            if kept:  # the model's own way from hidden states to logits (some scale or cap them), without its layers
                decoder.forward = lambda *_arguments, **_named: kept[0]
            output = model(**inputs, use_cache=False)
        finally:
            hook.remove()
            keeping.remove()
            decoder.__dict__.pop("forward", None)
        yield output.logits[0].float().cpu()
