"""A model with a classification head, opened: texts or conversations in, a probability for each label out.

A `Classifier` writes no answers, so it is no `Runtime`: it is what a suite of the kind `classification` asks. A
transformers model with or without adapter is `HfClassifier`; an exported file has a class of the same form in its own
module. `Shares` stands for a base without a head. Used by `edgeft.evals.classified`, the `eval` and `verify` stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.errors import ModelError
from edgeft.models import heads
from edgeft.runtimes.answer import check_ids
from edgeft.runtimes.protocol import Message
from edgeft.runtimes.threads import choose_threads, inference
from edgeft.template_date import strftime_now

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float32]

_BATCH_TOKENS = 16_384
_BATCH_ROWS = 64
Asked = str | Sequence[Message] | Sequence[int]  # a text, a conversation, or token ids


class Classifier(Protocol):
    """What every classifier can do. Token ids are plain ints; one classifier is used from one thread."""

    name: str  # "hf", "hf+adapter", "onnx int8"
    labels: tuple[str, ...]
    context_length: int
    batch_tokens: int  # tokens that are read together at most, padding included; may be set

    def encode(self, row: str | Sequence[Message]) -> list[int]:
        """The token ids that training gave the model for it: a text with what the tokenizer puts around it, a
        conversation as the chat template renders it."""
        ...

    def classify(self, rows: Sequence[Asked], *, on_done: Callable[[int], None] | None = None) -> Probabilities:
        """float32[len(rows), labels]: the probability of each label, of each row. `on_done` hears how many more rows
        are done. A `ModelError` for ids outside the vocabulary and for rows longer than the context."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Classifier: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class HfClassifier:
    """The `Classifier` protocol over a transformers sequence classifier and its tokenizer.

    model      as `edgeft.models.open` gives it, with its adapter; any dtype (4-bit layers included)
    labels     one for each row of the head; a reward has one, whose value `values` tells
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        *,
        name: str = "hf",
        where: str = "",
        context_length: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self.labels = tuple(labels)
        self.name = name
        config = model.config.get_text_config()
        most = heads.longest(config.to_dict()) or 1 << 20
        self.context_length = min(context_length or most, most)
        self.batch_tokens = _BATCH_TOKENS
        self._pad = int(config.pad_token_id)  # transformers finds the last token of a decoder's line by it
        self._vocab_size = int(config.vocab_size)
        self.threads = choose_threads(threads, sum(int(p.numel()) for p in model.parameters()))
        self._where = where or name

    def encode(self, row: str | Sequence[Message]) -> list[int]:
        if isinstance(row, str):
            return list(self._tokenizer(row, verbose=False)["input_ids"])
        return list(self._tokenizer(self.render(row), add_special_tokens=False, verbose=False)["input_ids"])

    def render(self, messages: Sequence[Message]) -> str:
        import jinja2

        if not self._tokenizer.chat_template:
            raise ModelError("the tokenizer has no chat template", where=self._where)
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, strftime_now=strftime_now)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ModelError(
                f"the chat template does not accept this conversation: {error}", where=self._where
            ) from None
        return str(text)

    def classify(self, rows: Sequence[Asked], *, on_done: Callable[[int], None] | None = None) -> Probabilities:
        return softmax(self.values(rows, on_done=on_done))

    def values(self, rows: Sequence[Asked], *, on_done: Callable[[int], None] | None = None) -> Probabilities:
        """float32[len(rows), labels]: what the head says before it is made a probability (of a reward: the reward)."""
        import numpy as np

        ids = [self._ids(row) for row in rows]
        found = np.zeros((len(rows), len(self.labels)), np.float32)
        for chosen in together([len(row) for row in ids], self.batch_tokens):
            found[chosen] = self._read([ids[i] for i in chosen])
            if on_done is not None:
                on_done(len(chosen))
        return found

    def _ids(self, row: Asked) -> Sequence[int]:
        asked: Any = row
        ids: Any = self.encode(asked) if isinstance(row, str) or (row and isinstance(row[0], Mapping)) else row
        check_ids(ids, vocab_size=self._vocab_size, context_length=self.context_length, where=self._where)
        return list(ids)

    def _read(self, rows: Sequence[Sequence[int]]) -> Any:
        import torch

        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        device = self._model.device
        with inference(self.threads):
            found = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return found.float().cpu().numpy()

    def close(self) -> None:
        self._model = None

    def __enter__(self) -> HfClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Shares:
    """What can be said without reading a row: each label with its share of the training rows. The baseline of a base
    that has no head of its own; its guess is always the most frequent label (the first of equals)."""

    def __init__(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.name, self.labels = "most frequent label", tuple(labels)
        self.context_length, self.batch_tokens = 1 << 30, _BATCH_TOKENS
        # One more of each, so that a label without rows has no probability of zero.
        total = sum(counts) + len(counts)
        self._shares = [(count + 1) / total for count in counts]

    def encode(self, row: str | Sequence[Message]) -> list[int]:
        return []

    def classify(self, rows: Sequence[Asked], *, on_done: Callable[[int], None] | None = None) -> Probabilities:
        import numpy as np

        if on_done is not None:
            on_done(len(rows))
        return np.tile(np.asarray(self._shares, np.float32), (len(rows), 1))

    def close(self) -> None: ...

    def __enter__(self) -> Shares:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def softmax(values: Probabilities) -> Probabilities:
    """float32[n, labels] of head values as probabilities, computed in float64."""
    import numpy as np

    wide = values.astype(np.float64)
    raised = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: Probabilities = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def together(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, the longest first: at most `batch_tokens` with their padding."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        count = max(1, min(_BATCH_ROWS, batch_tokens // max(1, lengths[order[0]])))
        yield order[:count]
        order = order[count:]


def open_classifier(
    base: Path,
    adapter: Path | None = None,
    *,
    context_length: int | None = None,
    threads: int | None = None,
    device: str = "auto",
) -> HfClassifier:
    """Open a local checkpoint folder that has a head, or a base with the adapter (or the fully tuned model) that brings
    one. `ModelError` for what has none, and for what is damaged, unsafe or does not fit together."""
    from edgeft.models.heads import labels_of
    from edgeft.models.open import open_base, open_tuned
    from edgeft.models.tokenizer import load_tokenizer

    labels = labels_of(adapter or base)
    if labels is None:
        raise ModelError("there is no classification head here", where=adapter or base, do="train one: see objective")
    if adapter is None:
        model = open_base(base, labels=labels, device=device)
    else:
        model = open_tuned(base, adapter, device=device)
    return HfClassifier(
        model,
        load_tokenizer(base, adapter=adapter),
        labels,
        name="hf" if adapter is None else "hf+adapter",
        where=str(adapter or base),
        context_length=context_length,
        threads=threads,
    )
