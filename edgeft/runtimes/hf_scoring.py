"""Log-likelihoods with a transformers model: trees of requests in one padded batch, logits only where something is
scored. Used by `edgeft.runtimes.hf` only.

What a token of a tree may see is written as a 4D attention mask, which models of full attention take as it is. Models
with other layers (sliding windows, recurrent states) read each request by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.runtimes.protocol import Likelihood, Request
from edgeft.runtimes.scoring import Tree, batches, trees

if TYPE_CHECKING:
    import torch

_TREE_TOKENS = 1024  # of one tree: attention over a tree costs its square
_LOGITS = 1 << 26  # floats (256 MB) of logits of one forward pass
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
    wanted = list(places)
    size = max(1, _LOGITS // vocab_size)
    best, norms, chosen = [], [], torch.empty(len(pairs), dtype=torch.float64)
    place_of, target_of = (torch.tensor(column) for column in zip(*pairs, strict=True))
    inputs = _inputs(batch, model.device)
    for first in range(0, len(wanted), size):
        logits = _logits(model, inputs, wanted[first : first + size])
        best.append(logits.argmax(dim=-1))
        norms.append(torch.logsumexp(logits, dim=-1).double())
        here = (place_of >= first) & (place_of < first + size)
        chosen[here] = logits[place_of[here] - first, target_of[here]].double()
    logprobs = (chosen - torch.cat(norms)[place_of]).tolist()
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
    mask = torch.eye(width, dtype=torch.bool).repeat(len(batch), 1, 1)  # padding sees itself: no row may be empty
    for row, tree in enumerate(batch):
        for token, parent in enumerate(tree.parents):
            if parent >= 0:
                mask[row, token] |= mask[row, parent]
    return inputs | {"attention_mask": mask[:, None].to(device)}


def _logits(model: Any, inputs: dict[str, torch.Tensor], wanted: Sequence[tuple[int, int]]) -> torch.Tensor:
    """float32[K, V] logits at (row, token) places, on the CPU: the output layer is given the hidden states of those
    places only, so the others' logits are never computed."""
    import torch

    rows, tokens = (torch.tensor(column, device=model.device) for column in zip(*wanted, strict=True))

    def select(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][rows, tokens].unsqueeze(0), *arguments[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        output = model(**inputs, use_cache=False)
    finally:
        hook.remove()
    logits: torch.Tensor = output.logits[0].float().cpu()
    return logits
