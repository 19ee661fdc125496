"""A transformers model, with or without adapter, 4-bit or not: what was trained, and every file is judged against.

Opened by `edgeft.runtimes.open_runtime` and, in stages, by `open_hf`. Weights compute in float32 on a CPU, so that the
judgement adds no rounding of its own, and in the checkpoint's dtype on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeft.runtimes import hf_scoring
from edgeft.runtimes.answer import Answer, begin, check_ids, choose, generators
from edgeft.runtimes.protocol import Completion, Likelihood, Message, Request
from edgeft.runtimes.rendering import rendered
from edgeft.runtimes.threads import choose_threads, inference

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_BATCH_TOKENS = 16_384  # prompt and answer tokens of one generation batch
_BATCH_ROWS = 64
_BATCH_LOGITS = 1 << 25  # floats (128 MB) of logits that one forward pass of `logits_batch` may return


class HfRuntime:
    """The `Runtime` protocol over a transformers causal language model and its tokenizer.

    model       in eval mode, on its device; any dtype (4-bit layers included)
    tokenizer   a transformers tokenizer with the chat template of training
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        stop_ids: tuple[int, ...],
        name: str = "hf",
        where: str = "",
        context_length: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self.name = name
        config = model.config.get_text_config()
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        longest = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        self.context_length = min(context_length or longest, longest)
        self.stop_ids = stop_ids
        self.prefix_id: int | None = _first_of(tokenizer.bos_token_id, tokenizer.eos_token_id)
        before = tuple(tokenizer("", verbose=False)["input_ids"])
        self.begins: tuple[int, ...] = before if before == (tokenizer.bos_token_id,) else ()
        self.batch_tokens = _BATCH_TOKENS
        self._shares = hf_scoring.may_share(model)
        parameters = sum(int(parameter.numel()) for parameter in model.parameters())
        self.threads = choose_threads(threads, parameters)
        self._where = where or name

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        return rendered(
            self._tokenizer, messages, add_generation_prompt=add_generation_prompt, tools=tools, where=self._where
        )

    def check(self, ids: Sequence[int], room: int = 0) -> None:
        check_ids(ids, vocab_size=self.vocab_size, context_length=self.context_length, where=self._where, room=room)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return next(self.logits_batch([ids]))

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        for row in rows:
            self.check(row)
        start = 0
        while start < len(rows):
            count = _fitting(rows[start:], self.vocab_size)
            yield from self._read_together(rows[start : start + count])
            start += count

    def _read_together(self, rows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Rows padded on the right: in a causal model no token sees the padding behind it, so no mask is needed."""
        import torch

        width = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        with inference(self.threads):
            logits = self._model(input_ids=ids.to(self._model.device), use_cache=False).logits.float().cpu().numpy()
        return [logits[i, : len(row)] for i, row in enumerate(rows)]

    def loglikelihoods(
        self, requests: Sequence[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Likelihood]:
        for prefix, continuation in requests:
            self.check([*prefix, *continuation][:-1])
        if not requests:
            return []
        with inference(self.threads):
            return hf_scoring.score(
                self._model,
                requests,
                vocab_size=self.vocab_size,
                batch_tokens=self.batch_tokens,
                share=self._shares,
                on_done=on_done,
            )

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
        answers = begin(self, prompts, max_tokens=max_tokens, stop=stop, on_token=on_token)
        random = generators(len(prompts), temperature, seed)
        # Longest first, so that rows of one batch need little padding and a batch too large fails at once.
        order = sorted((i for i in range(len(prompts)) if not answers[i].done), key=lambda i: -len(prompts[i]))
        while order:
            longest = len(prompts[order[0]]) + max_tokens
            count = max(1, min(_BATCH_ROWS, self.batch_tokens // longest))
            rows, order = order[:count], order[count:]
            with inference(self.threads):
                self._answer_together([(prompts[i], answers[i], random[i]) for i in rows], temperature)
        return [answer.completion() for answer in answers]

    def _answer_together(self, rows: Sequence[tuple[Sequence[int], Answer, Any]], temperature: float) -> None:
        """Answer rows in one batch, padded on the left; rows that are done leave it."""
        import torch

        width = max(len(prompt) for prompt, _, _ in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long, device=self._model.device)
        mask = torch.zeros_like(ids)
        for i, (prompt, _, _) in enumerate(rows):
            ids[i, width - len(prompt) :] = torch.tensor(prompt, device=ids.device)
            mask[i, width - len(prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = None
        live = list(rows)
        while True:
            output = self._model(
                input_ids=ids,
                attention_mask=mask if int(mask.min()) == 0 else None,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = _choose_rows(output.logits[:, -1].float(), live, temperature)
            for (_, answer, _), token in zip(live, chosen, strict=True):
                answer.add(token)
            kept = [i for i, (_, answer, _) in enumerate(live) if not answer.done]
            if not kept:
                return
            ids = torch.tensor([[chosen[i]] for i in kept], device=ids.device)
            if len(kept) < len(live):
                live = [live[i] for i in kept]
                index = torch.tensor(kept, device=ids.device)
                cache.batch_select_indices(index)
                mask, positions = mask[index], positions[index]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            positions = positions[:, -1:] + 1

    def close(self) -> None:
        self._model = None

    def __enter__(self) -> HfRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_of(*ids: int | None) -> int | None:
    return next((token for token in ids if token is not None), None)


def _choose_rows(
    logits: torch.Tensor, rows: Sequence[tuple[Sequence[int], Answer, Any]], temperature: float
) -> list[int]:
    """The next token of each row from float32[B, V] logits."""
    if temperature <= 0:
        return [int(token) for token in logits.argmax(dim=-1)]
    values = logits.cpu().numpy()
    return [choose(values[i], temperature, random) for i, (_, _, random) in enumerate(rows)]


def _fitting(rows: Sequence[Sequence[int]], vocab_size: int) -> int:
    """How many of the first rows one forward pass may read: bounded logits, and little padding."""
    widest = shortest = len(rows[0])
    count = 1
    for row in rows[1:_BATCH_ROWS]:
        widest, shortest = max(widest, len(row)), min(shortest, len(row))
        if (count + 1) * widest * vocab_size > _BATCH_LOGITS or widest > 2 * shortest + 16:
            break
        count += 1
    return count


def open_hf(
    base: Path,
    adapter: Path | None = None,
    *,
    context_length: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    chat_template: str | None = None,
) -> HfRuntime:
    """Open a local checkpoint folder, with a peft adapter on top of it or without.

    chat_template  the text of one that takes the place of the model's own, and of the one an adapter was trained with

    An adapter opens on the base as it was trained (4-bit or not, by its training.json). Raises `ModelError` for what is
    damaged, unsafe or does not fit together.
    """
    from edgeft.models.open import open_base, open_tuned
    from edgeft.models.stops import stop_ids
    from edgeft.models.tokenizer import load_tokenizer

    model = open_base(base, device=device) if adapter is None else open_tuned(base, adapter, device=device)
    tokenizer = load_tokenizer(base, adapter=adapter, chat_template=chat_template)
    return HfRuntime(
        model,
        tokenizer,
        stop_ids=stop_ids(base, tokenizer),
        name="hf" if adapter is None else "hf+adapter",
        where=str(adapter or base),
        context_length=context_length,
        threads=threads,
    )
