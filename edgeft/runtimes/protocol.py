"""A runtime: any artifact that can answer, opened. A Hugging Face model, a GGUF file and an ONNX folder look alike.

Used by `evals` (suites, divergence), the `verify` stage and `edgeft chat`. Opened by `edgeft.runtimes.open_runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Message = dict[str, Any]  # "role" and "content"; of tool calling also "tool_calls" and such
Request = tuple[Sequence[int], Sequence[int]]  # prefix ids (at least one), continuation ids (at least one)


@dataclass(frozen=True)
class Completion:
    """A greedy or sampled answer. `stopped` is True when a stop token or a stop text ended it, False when `max_tokens`
    did.

    ids     the generated token ids, the stop token included when there was one
    text    the decoded answer without the stop token, or up to the stop text
    """

    ids: tuple[int, ...]
    text: str
    stopped: bool


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation: the log probability (nats) of each of its tokens, given all before it; `greedy` when each was
    the most likely one, so that a greedy answer would have begun with it."""

    logprobs: tuple[float, ...]
    greedy: bool


class Runtime(Protocol):
    """What every runtime can do. Token ids are plain ints; one runtime is used from one thread."""

    name: str  # "hf", "hf+adapter", "gguf q4_k_m", "onnx int4"
    vocab_size: int  # columns of `logits`
    context_length: int
    stop_ids: tuple[int, ...]
    prefix_id: int | None  # what a text that stands alone begins with: BOS, else the end of text
    begins: tuple[int, ...]  # what the tokenizer puts before plain text by itself (BOS); `encode` never does
    batch_tokens: int  # tokens that are read together at most, where rows are read together; may be set

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as the runtime's own tokenizer gives them: special tokens written in the text are
        parsed as such, nothing (no BOS) is added beyond what the chat template writes."""
        ...

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        """The conversation as the runtime's own chat template renders it; `tools`: descriptions that it offers."""
        ...

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """float32[T, vocab_size]: the next-token logits after each of the T ids, from an empty context."""
        ...

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """`logits` of each row, in order, as an iterator (all rows at once could be many GB). Several rows are read
        together where that is faster: prefer it to a loop over `logits`."""
        ...

    def loglikelihoods(
        self, requests: Sequence[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Likelihood]:
        """The likelihood of each continuation behind its prefix. What requests have in common is read once, and logits
        are computed only where a token is scored: prefer it to `logits_batch` for scores. `on_done` hears how many
        more are done."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_token: Callable[[str], None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt (token ids), ended by `stop_ids` or a text of `stop`. Greedy at temperature 0.
        `on_token` (only with a single prompt) receives the text as it comes."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Runtime: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
