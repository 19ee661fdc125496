"""Log-likelihoods of continuations: how requests that begin alike are laid out so that what they share is read once.

Used by the three runtimes (`Runtime.loglikelihoods`). Requests are (prefix ids, continuation ids). Sorted by their ids,
those that begin alike are neighbours. A transformers model reads several of them as one `Tree` (their common tokens
stand once; each token sees its own ancestors only); llama.cpp and ONNX Runtime keep the common tokens in their cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.runtimes.protocol import Likelihood, Request

_SHARED = 0.25  # a request joins a tree when at least this part of it is there already
_PASS = 64  # tokens that a pass through a model costs besides its own: measured at 3 and at 600 million parameters
_CHUNK_VALUES = 4_000_000  # float64 values of one log-softmax: 32 MB


@dataclass
class Tree:
    """Requests laid over each other. Token `i` is `ids[i]`, at depth `depths[i]`, behind token `parents[i]` (-1: none).
    `paths` has, per request, its number and the tree's indices of all its tokens."""

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: list[tuple[int, list[int]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, number: int, ids: Sequence[int], shared: int) -> None:
        """Put a request in; its first `shared` tokens are those of the request put in before."""
        path = self.paths[-1][1][:shared] if shared else []
        for token in ids[shared:]:
            self.parents.append(path[-1] if path else -1)
            self.depths.append(len(path))
            path.append(len(self.ids))
            self.ids.append(token)
        self.paths.append((number, path))


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    limit = min(len(first), len(second))
    return next((i for i in range(limit) if first[i] != second[i]), limit)


def in_order(requests: Sequence[Request]) -> list[int]:
    """The requests' numbers, those that begin alike side by side."""
    return sorted(range(len(requests)), key=lambda i: (tuple(requests[i][0]), tuple(requests[i][1])))


def trees(requests: Sequence[Request], most: int, *, share: bool = True) -> list[Tree]:
    """All requests as trees, the largest first. The last token of a request is only predicted, so it is left out.

    A tree grows up to `most` tokens; without `share` each request is a tree of its own.
    """
    found: list[Tree] = []
    before: list[int] = []
    for number in in_order(requests):
        ids = [*requests[number][0], *requests[number][1]][:-1]
        shared = shared_length(before, ids)
        joins = share and bool(found) and shared >= _SHARED * len(ids) and len(found[-1]) + len(ids) - shared <= most
        if not joins:
            found.append(Tree())
            shared = 0
        found[-1].add(number, ids, shared)
        before = ids
    return sorted(found, key=len, reverse=True)


def batches(found: Sequence[Tree], tokens: int, rows: int) -> Iterator[Sequence[Tree]]:
    """Trees, the largest first, in groups of like size: `tokens` (padding counted) and `rows` at most, but at least
    one, and no more padding than another pass would cost."""
    start = 0
    while start < len(found):
        width = max(1, len(found[start]))
        most = max(1, min(rows, tokens // width, len(found) - start))
        padding, count = 0, 1
        while count < most:
            padding += width - len(found[start + count])
            if padding > _PASS:
                break
            count += 1
        yield found[start : start + count]
        start += count


def target_logprobs(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float64]:
    """float64[T]: log probability of each target under logits float32[T, V]; in float64, a block of rows at a time."""
    import numpy as np
    from scipy.special import logsumexp

    found = np.empty(len(targets), dtype=np.float64)
    step = max(1, _CHUNK_VALUES // logits.shape[1])
    for first in range(0, len(targets), step):
        chunk = logits[first : first + step].astype(np.float64)
        chosen = np.asarray(targets[first : first + step])
        found[first : first + step] = chunk[np.arange(len(chosen)), chosen] - logsumexp(chunk, axis=1)
    return found


def likelihood(logits: NDArray[np.float32], targets: Sequence[int]) -> Likelihood:
    """What logits float32[T, V], each of the position before its target, say of T targets."""
    from edgeft.runtimes.protocol import Likelihood

    greedy = logits.argmax(axis=1).tolist() == list(targets)
    return Likelihood(tuple(target_logprobs(logits, targets).tolist()), greedy)


def one_by_one(
    requests: Sequence[Request],
    read: Callable[[Sequence[int], Sequence[int]], NDArray[np.float32]],
    on_done: Callable[[int], None] | None,
) -> list[Likelihood]:
    """Requests in an order in which a cache helps.

    read  (prefix, continuation without its last token) -> float32[T, V] logits after the prefix and after each of them
    """
    found: dict[int, Likelihood] = {}
    for number in in_order(requests):
        prefix, continuation = requests[number]
        found[number] = likelihood(read(prefix, continuation[:-1]), continuation)
        if on_done is not None:
            on_done(1)
    return [found[number] for number in range(len(requests))]
