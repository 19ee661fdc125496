"""A reward model, opened: a conversation with its answer in, one value out, higher for a better answer.

It writes no answers, so it is no `Runtime`; it renders and encodes as one does, so that what it values is, token by
token, what training gave its head. Used by `edgeft.evals.preferred`, opened by the `eval` stage and
`edgeft.runtimes.open_any`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.runtimes.classifier import HfClassifier
from edgeft.runtimes.protocol import Message
from edgeft.runtimes.rendering import rendered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RewardModel:
    """Values of answers.

    head       the open model behind a head with one value
    tokenizer  a transformers tokenizer with the chat template of training
    stop_ids   the tokens that may end an answer: the head reads up to the first of them
    """

    def __init__(self, head: HfClassifier, tokenizer: Any, stop_ids: tuple[int, ...]) -> None:
        self._head, self._tokenizer = head, tokenizer
        self.name, self.context_length, self.stop_ids = head.name, head.context_length, stop_ids

    @property
    def batch_tokens(self) -> int:
        """Tokens that are read together at most, padding included; may be set."""
        return self._head.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, most: int) -> None:
        self._head.batch_tokens = most

    def encode(self, text: str) -> list[int]:
        """Token ids of a text: special tokens written in it are parsed, nothing is added."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        """The conversation as the chat template renders it, with the `tools` that it offers; a `ModelError` when it
        does not."""
        return rendered(
            self._tokenizer, messages, add_generation_prompt=add_generation_prompt, tools=tools, where=self.name
        )

    def rewards(
        self, rows: Sequence[Sequence[int]], *, on_done: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """float32[len(rows)]: the value of each row of token ids, read whole. `on_done` hears how many more are
        done."""
        found: NDArray[np.float32] = self._head.values(rows, on_done=on_done)[:, 0]
        return found

    def close(self) -> None:
        self._head.close()

    def __enter__(self) -> RewardModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_reward(base: Path, adapter: Path | None = None, *, device: str = "auto") -> RewardModel:
    """Open a local checkpoint folder with the adapter that brings the head. Without one the head starts as training
    would start it, which knows nothing yet. `ModelError` for what does not fit together."""
    from edgeft.models.heads import REWARD, labels_of
    from edgeft.models.open import open_base, open_tuned
    from edgeft.models.stops import stop_ids
    from edgeft.models.tokenizer import load_tokenizer

    if adapter is None:
        model = open_base(base, labels=REWARD, device=device)
    else:
        if labels_of(adapter) != REWARD:
            raise ModelError("this is no reward model", where=adapter, do="train one: see objective: reward")
        model = open_tuned(base, adapter, device=device)
    tokenizer = load_tokenizer(base, adapter=adapter)
    name = "hf" if adapter is None else "hf+adapter"
    head = HfClassifier(model, tokenizer, REWARD, name=name, where=str(adapter or base))
    return RewardModel(head, tokenizer, stop_ids(base, tokenizer))
