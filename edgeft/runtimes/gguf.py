"""A GGUF file, opened in llama.cpp as the device opens it: its own tokenizer, its embedded chat template, its logits.

Opened by `edgeft.runtimes.open_runtime`. Tokens are chosen by `edgeft.runtimes.answer`, not by llama.cpp's samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.files import is_lfs_pointer
from edgeft.models import template
from edgeft.runtimes.answer import answer_each, begin, check_ids
from edgeft.runtimes.llama import LlamaContext, LlamaModel
from edgeft.runtimes.protocol import Completion, Likelihood, Message, Request
from edgeft.runtimes.scoring import one_by_one
from edgeft.runtimes.threads import choose_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def open_gguf(
    path: Path, *, adapter: Path | None = None, context_length: int | None = None, threads: int | None = None
) -> GgufRuntime:
    """Open a `.gguf` file, with a GGUF LoRA `adapter` on it. Raises `ModelError` when it is not one or llama.cpp cannot
    load it."""
    _check_file(path)
    if adapter is not None:
        _check_file(adapter)
    return GgufRuntime(path, adapter=adapter, context_length=context_length, threads=threads)


def _check_file(path: Path) -> None:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if is_lfs_pointer(path):
        raise ModelError("this is a Git LFS pointer, not the model", where=path, do="run: git lfs pull")
    if magic != b"GGUF":
        raise ModelError("this is not a GGUF file (it does not begin with 'GGUF')", where=path)


class GgufRuntime:
    """The `Runtime` protocol over one GGUF file."""

    def __init__(
        self, path: Path, *, adapter: Path | None = None, context_length: int | None = None, threads: int | None = None
    ) -> None:
        self._model = LlamaModel(path)
        if adapter is not None:
            self._model.put_on(adapter)
        self._path = path
        self._context: LlamaContext | None = None
        self.name = f"gguf {self._file_type()}{' + lora' if adapter else ''}"
        self.vocab_size = self._model.vocab_size
        self.context_length = min(context_length or self._model.context_length, self._model.context_length)
        self.stop_ids = self._model.ends_generation()
        self.prefix_id = next((token for token in (self._model.bos(), self._model.eos()) if token >= 0), None)
        self.begins = (self._model.bos(),) if self._model.adds_bos() else ()
        self.batch_tokens = 1 << 14
        parameters = int(self._model.api.llama_model_n_params(self._model.handle))
        self.threads = choose_threads(threads, parameters)

    def _file_type(self) -> str:
        """What `general.file_type` says: "q4_k_m", "f16"."""
        from gguf import LlamaFileType

        try:
            name = LlamaFileType(int(self._model.metadata("general.file_type") or "")).name
        except ValueError:
            return "of unknown type"
        return name.removeprefix("ALL_").removeprefix("MOSTLY_").lower()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._model.decode(ids) if ids else ""

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        source = self._model.metadata("tokenizer.chat_template")
        if source is None:
            raise ModelError("the file has no chat template (tokenizer.chat_template)", where=self._path)
        names = {"bos_token": self._model.bos(), "eos_token": self._model.eos()}
        variables = {name: text for name, token in names.items() if (text := self._model.token_text(token)) is not None}
        return template.render(
            source,
            messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            variables=variables,
            where=str(self._path),
        )

    def check(self, ids: Sequence[int], room: int = 0) -> None:
        check_ids(
            ids,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            where=str(self._path),
            room=room,
        )

    def _roomy(self, size: int) -> LlamaContext:
        """The context, made anew when `size` tokens do not fit into it."""
        if self._context is None or self._context.size < size:
            if self._context is not None:
                self._context.close()
            grown = 1 << (size - 1).bit_length()
            self._context = LlamaContext(self._model, min(grown, self.context_length), self.threads)
        return self._context

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.check(ids)
        context = self._roomy(len(ids))
        context.clear()
        return context.read(ids, every=True)

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        return (self.logits(row) for row in rows)

    def loglikelihoods(
        self, requests: Sequence[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Likelihood]:
        for prefix, continuation in requests:
            self.check([*prefix, *continuation][:-1])
        return one_by_one(requests, self._read_behind, on_done)

    def _read_behind(self, prefix: Sequence[int], following: Sequence[int]) -> NDArray[np.float32]:
        """float32[1 + T, V] logits after the prefix and after each id behind it; what the cache holds of the prefix is
        not read again."""
        ids = [*prefix, *following]
        context = self._roomy(len(ids))
        kept = context.keep_prefix(prefix)
        return context.read(ids[kept:], every=False, last=1 + len(following))

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
        return answer_each(prompts, answers, self._start, self._step, temperature=temperature, seed=seed)

    def _start(self, prompt: Sequence[int], following: int) -> NDArray[np.float32]:
        context = self._roomy(len(prompt) + following)
        kept = context.keep_prefix(prompt)
        row: NDArray[np.float32] = context.read(prompt[kept:], every=False)[0]
        return row

    def _step(self, token: int) -> NDArray[np.float32]:
        assert self._context is not None
        row: NDArray[np.float32] = self._context.read([token], every=False)[0]
        return row

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None
        self._model.close()

    def __enter__(self) -> GgufRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
