"""An onnxruntime-genai folder, opened as the device opens it: its tokenizer, its chat template, its graph, on the CPU.

Opened by `edgeft.runtimes.open_runtime`. Token ids come from onnxruntime-genai's own tokenizer, because that is what
ships: where it differs from the tokenizer of training (a NUL ends its text, it skips Unicode normalisation), a
verification has to see it. Tokens are chosen by `edgeft.runtimes.answer`, not by the library's sampler.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from edgeft.errors import MissingError, ModelError
from edgeft.models import template
from edgeft.runtimes.answer import answer_each, begin, check_ids
from edgeft.runtimes.onnx_folder import OnnxFolder, read_folder
from edgeft.runtimes.onnx_plain import PlainOnnxRuntime
from edgeft.runtimes.protocol import Completion, Likelihood, Message, Request
from edgeft.runtimes.scoring import one_by_one, shared_length
from edgeft.runtimes.threads import choose_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NEEDED = {"genai": ("onnx", "onnxruntime_genai"), "plain": ("onnx", "onnxruntime", "tokenizers", "jinja2")}
_ACTIVE = "active"  # what the adapter is called inside
_KEPT_OUTPUTS = 1 << 24  # floats of logits that one call may return: longer rows are read in pieces


def open_onnx(
    folder: Path,
    *,
    context_length: int | None = None,
    threads: int | None = None,
    adapter: str | None = None,
    engine: Literal["auto", "genai", "plain"] = "auto",
) -> OnnxRuntime | PlainOnnxRuntime:
    """Open an exported ONNX folder: in onnxruntime-genai, or in plain ONNX Runtime where that is not installed.

    adapter  the name of an adapter file beside the graph (default: the only one there is; "" for none of them)
    engine   "plain": without onnxruntime-genai also where it is installed
    Raises `ModelError` when it is no such folder, is unsafe, or does not load; `MissingError` without ONNX Runtime.
    """
    if engine == "auto":
        engine = "genai" if find_spec("onnxruntime_genai") else "plain"
    for module in _NEEDED[engine]:
        if find_spec(module) is None:
            raise MissingError(f"this needs {module.replace('_', '-')}", do="pip install 'edgeft[onnx]'")
    opened = read_folder(folder)
    made = OnnxRuntime if engine == "genai" else PlainOnnxRuntime
    return made(opened, context_length=context_length, threads=threads, adapter=adapter)


class OnnxRuntime:
    """The `Runtime` protocol over one folder with `genai_config.json`."""

    def __init__(
        self, folder: OnnxFolder, *, context_length: int | None, threads: int | None, adapter: str | None = None
    ) -> None:
        import onnxruntime_genai as genai

        self._genai = genai
        self._folder = folder
        self.name = f"onnx {folder.precision}"
        self.vocab_size = folder.vocab_size
        self.context_length = min(context_length or folder.context_length, folder.context_length)
        self.stop_ids = folder.stop_ids
        self.prefix_id = folder.prefix_id
        self.begins = folder.begins
        self.batch_tokens = 1 << 14
        self.threads = choose_threads(threads, folder.weight_bytes // 2)
        self._generator: Any = None
        self._capacity = 0
        self._past: list[int] = []
        self._adapters: Any = None
        file = folder.adapter_file(adapter)
        try:
            config = genai.Config(str(folder.path))
            config.clear_providers()
            config.overlay(json.dumps(_session_options(self.threads)))
            self._model = genai.Model(config)
            self._tokenizer = genai.Tokenizer(str(folder.path))
            if file is not None:
                self._adapters = genai.Adapters(self._model)
                self._adapters.load(str(file), _ACTIVE)
        except Exception as error:  # the library raises plain RuntimeError and its own OrtException
            raise ModelError(
                f"onnxruntime-genai cannot load this folder: {_first_line(error)}", where=folder.path
            ) from None

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)] if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        import numpy as np

        kept = [token for token in ids if token not in self._folder.special_ids]
        return str(self._tokenizer.decode(np.array(kept, dtype=np.int32))) if kept else ""

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

    def render_on_device(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as onnxruntime-genai's own template engine writes it, for comparison with `render`.

        Raises `ModelError` when that engine does not understand the template.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                json.dumps(list(messages), ensure_ascii=False), add_generation_prompt=add_generation_prompt
            )
        except Exception as error:
            raise ModelError(
                f"onnxruntime-genai cannot render the chat template: {_first_line(error)}", where=self._folder.path
            ) from None
        return str(text)

    def check(self, ids: Sequence[int], room: int = 0) -> None:
        check_ids(
            ids,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            where=str(self._folder.path),
            room=room,
        )

    def _rewind(self, kept: int, capacity: int) -> None:
        """A generator that holds the first `kept` ids of the past and has room for `capacity` tokens in all."""
        held = self._generator is not None and self._capacity >= capacity
        if held and (kept >= len(self._past) or self._rewound(kept)):
            return
        self._capacity = min(max(256, 1 << (capacity - 1).bit_length()), self._folder.context_length)
        parameters = self._genai.GeneratorParams(self._model)
        parameters.set_search_options(
            max_length=self._capacity, min_length=0, do_sample=False, num_beams=1, batch_size=1
        )
        self._generator = self._genai.Generator(self._model, parameters)
        if self._adapters is not None:
            self._generator.set_active_adapter(self._adapters, _ACTIVE)
        self._past = []

    def _rewound(self, kept: int) -> bool:
        """Whether the generator could forget what stands behind `kept` ids: those with convolutions cannot."""
        try:
            self._generator.rewind_to(kept)
        except Exception:  # the library's own RuntimeError subclass
            return False
        del self._past[kept:]
        return True

    def _read(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """float32[T, V] logits after each of `ids`, read behind the past."""
        import numpy as np

        self._generator.append_tokens(np.array(ids, dtype=np.int32))
        self._past.extend(ids)
        logits = self._generator.get_output("logits")
        return np.asarray(logits, dtype=np.float32).reshape(-1, self.vocab_size)[-len(ids) :]

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        import numpy as np

        self.check(ids)
        self._rewind(0, len(ids))
        size = max(16, _KEPT_OUTPUTS // self.vocab_size)
        parts = [self._read(ids[start : start + size]) for start in range(0, len(ids), size)]
        return np.concatenate(parts)

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
        import numpy as np

        ids = [*prefix, *following]
        self._rewind(min(shared_length(self._past, prefix), len(prefix) - 1), len(ids))
        rest = ids[len(self._past) :]
        wanted = 1 + len(following)
        size = max(16, _KEPT_OUTPUTS // self.vocab_size)
        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(rest), size):
            piece = self._read(rest[start : start + size])
            parts.append(piece[max(0, len(rest) - wanted - start) :])
        return np.concatenate(parts)

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
        self._rewind(0, len(prompt) + following)
        row: NDArray[np.float32] = self._read(prompt)[-1]
        return row

    def _step(self, token: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._read([token])[-1]
        return row

    def close(self) -> None:
        self._generator = None
        self._adapters = None
        self._model = None

    def __enter__(self) -> OnnxRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _session_options(threads: int) -> dict[str, Any]:
    """An overlay of genai_config.json: our number of threads, and no noise on stderr."""
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1, "log_severity_level": 4}
    return {"model": {"decoder": {"session_options": options}}}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
