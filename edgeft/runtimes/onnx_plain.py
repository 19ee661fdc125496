"""An exported ONNX folder in plain ONNX Runtime: the cache fed back by hand, no onnxruntime-genai, no torch.

Opened by `edgeft.runtimes.onnx.open_onnx` where onnxruntime-genai is not installed (or when asked for). The logits are
those of onnxruntime-genai, which runs the same graph; the folder's own `run.py` is the same loop without edgeft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.models import template
from edgeft.runtimes.answer import answer_each, begin, check_ids
from edgeft.runtimes.onnx_folder import OnnxFolder
from edgeft.runtimes.protocol import Completion, Likelihood, Message, Request
from edgeft.runtimes.scoring import one_by_one
from edgeft.runtimes.threads import choose_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEPT_OUTPUTS = 1 << 24  # floats of logits that one call may return: longer rows are read in pieces


class PlainOnnxRuntime:
    """The `Runtime` protocol over one folder, with nothing but onnxruntime, tokenizers and numpy (and Jinja)."""

    def __init__(
        self, folder: OnnxFolder, *, context_length: int | None, threads: int | None, adapter: str | None = None
    ) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._folder = folder
        self.name = f"onnx {folder.precision}"
        self.vocab_size = folder.vocab_size
        self.context_length = min(context_length or folder.context_length, folder.context_length)
        self.stop_ids = folder.stop_ids
        self.prefix_id = folder.prefix_id
        self.begins = folder.begins
        self.batch_tokens = 1 << 14
        self.threads = choose_threads(threads, folder.weight_bytes // 2)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        try:
            self._session = onnxruntime.InferenceSession(str(folder.graph), options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
            self._given = _adapter_values(folder, adapter)
        except Exception as error:  # onnxruntime and tokenizers raise classes that derive from Exception only
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"ONNX Runtime cannot load this folder: {lines[0]}", where=folder.path) from None
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._cache: dict[str, Any] = {}
        self._length = 0

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        if self._folder.chat_template is None:
            raise ModelError("the folder has no chat template (chat_template.jinja)", where=self._folder.path)
        return template.render(
            self._folder.chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            variables=self._folder.special_tokens,
            where=str(self._folder.path),
        )

    def check(self, ids: Sequence[int], room: int = 0) -> None:
        check_ids(
            ids,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            where=str(self._folder.path),
            room=room,
        )

    def _forget(self) -> None:
        """Start with an empty cache: of the sizes that the graph leaves open, the batch is 1 and the past 0."""
        import numpy as np

        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        open_sizes = {"b": 1, "p": 0}
        for name in self._folder.caches:
            if name in self._inputs:
                sizes = self._inputs[name].shape
                shape = [
                    size if isinstance(size, int) else open_sizes.get(size[0], self._folder.head_size) for size in sizes
                ]
                self._cache[name] = np.zeros(shape, dtype=kinds[self._inputs[name].type])
        self._length = 0

    def _read(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """float32[T, V] logits after each of `ids`, read behind the past."""
        import numpy as np

        total = self._length + len(ids)
        known = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(self._length, total, dtype=np.int64)[None],
            **self._cache,
        }
        outputs = ["logits", *(self._folder.caches[name] for name in self._cache)]
        feeds = {name: known[name] for name in self._inputs}
        values = self._session.run(outputs, {**feeds, **self._given})
        self._cache = dict(zip(self._cache, values[1:], strict=True))
        self._length = total
        return np.asarray(values[0], dtype=np.float32)[0, -len(ids) :]

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        import numpy as np

        self.check(ids)
        self._forget()
        size = max(16, _KEPT_OUTPUTS // self.vocab_size)
        return np.concatenate([self._read(ids[start : start + size]) for start in range(0, len(ids), size)])

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        return (self.logits(row) for row in rows)

    def loglikelihoods(
        self, requests: Sequence[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Likelihood]:
        for prefix, continuation in requests:
            self.check([*prefix, *continuation][:-1])
        return one_by_one(requests, self._read_behind, on_done)

    def _read_behind(self, prefix: Sequence[int], following: Sequence[int]) -> NDArray[np.float32]:
        """float32[1 + T, V] logits after the prefix and after each id behind it."""
        logits = self.logits([*prefix, *following])
        return logits[len(prefix) - 1 :]

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

    def _start(self, prompt: Sequence[int], _: int) -> NDArray[np.float32]:
        self._forget()
        row: NDArray[np.float32] = self._read(prompt)[-1]
        return row

    def _step(self, token: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._read([token])[-1]
        return row

    def close(self) -> None:
        self._cache = {}
        self._session = None

    def __enter__(self) -> PlainOnnxRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _adapter_values(folder: OnnxFolder, name: str | None) -> Mapping[str, NDArray[Any]]:
    """The inputs that the active adapter's file gives the graph."""
    import numpy as np
    import onnxruntime

    path = folder.adapter_file(name)
    if path is None:
        return {}
    file = onnxruntime.AdapterFormat.read_adapter(str(path))  # its values are gone when it is
    return {key: np.array(value.numpy()) for key, value in file.get_parameters().items()}
