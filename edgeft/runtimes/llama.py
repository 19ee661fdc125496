"""llama.cpp through llama-cpp-python's low-level calls: a GGUF file loaded, its vocabulary, and a context that decodes.

Used by `edgeft.runtimes.gguf` only. What is checked here before a call is what would end the process inside it:
llama.cpp asserts on a batch larger than `n_batch` and lets C++ exceptions escape from its tokenizer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OUTPUT_FLOATS = 1 << 24  # at most 64 MB of logits per call of llama_decode
_LEAST_CONTEXT = 512
_BYTE_ATTRIBUTE = 1 << 5  # LLAMA_TOKEN_ATTR_BYTE
_SENTENCEPIECE = 1  # LLAMA_VOCAB_TYPE_SPM

_log: list[str] = []
_callback: Any = None


def _api() -> Any:
    """The binding, with llama.cpp's log caught in `_log` instead of printed (its last lines name a fault)."""
    global _callback
    import llama_cpp

    if _callback is None:

        @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
        def keep(level: int, text: bytes, _: Any) -> None:
            if level in (3, 4):  # GGML_LOG_LEVEL_WARN, GGML_LOG_LEVEL_ERROR
                _log.append(text.decode("utf-8", "replace").strip())
                del _log[:-20]

        _callback = keep
        llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))
    return llama_cpp


class LlamaModel:
    """A loaded GGUF file. Raises `ModelError` with llama.cpp's own reason when it does not load."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.api = _api()
        parameters = self.api.llama_model_default_params()
        parameters.n_gpu_layers = 0  # the file is judged as a device without a GPU runs it
        parameters.check_tensors = True
        _log.clear()
        self.handle = self.api.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise ModelError(f"llama.cpp cannot load this file: {_reason()}", where=path)
        self.adapter: Any = None
        self.vocabulary = self.api.llama_model_get_vocab(self.handle)
        self.vocab_size = int(self.api.llama_vocab_n_tokens(self.vocabulary))
        self.context_length = int(self.api.llama_model_n_ctx_train(self.handle))
        self._refuse_missing_bytes()

    def _refuse_missing_bytes(self) -> None:
        """llama.cpp's SentencePiece tokenizer ends the process on a character for which there is no byte token."""
        if self.api.llama_vocab_type(self.vocabulary) != _SENTENCEPIECE:
            return
        attributes = (self.api.llama_vocab_get_attr(self.vocabulary, token) for token in range(self.vocab_size))
        count = sum(1 for attribute in attributes if attribute & _BYTE_ATTRIBUTE)
        if count < 256:
            raise ModelError(
                f"the vocabulary has {count} of 256 byte tokens: llama.cpp would abort on characters outside it",
                where=self.path,
                do="export from a tokenizer with byte fallback",
            )

    def metadata(self, key: str) -> str | None:
        """The text of a metadata value (long arrays excluded), or None."""
        size = self.api.llama_model_meta_val_str(self.handle, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        self.api.llama_model_meta_val_str(self.handle, key.encode(), buffer, size + 1)
        return buffer.raw[:size].decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens written in the text are parsed, none is added."""
        data = text.encode("utf-8", "surrogatepass")
        room = len(data) + 16
        tokens = (self.api.llama_token * room)()
        count = self.api.llama_tokenize(self.vocabulary, data, len(data), tokens, room, False, True)
        if count < 0:
            tokens = (self.api.llama_token * -count)()
            count = self.api.llama_tokenize(self.vocabulary, data, len(data), tokens, -count, False, True)
        return list(tokens[:count])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        tokens = (self.api.llama_token * len(ids))(*ids)
        room = 16 * len(ids) + 64
        buffer = ctypes.create_string_buffer(room)
        size = self.api.llama_detokenize(self.vocabulary, tokens, len(ids), buffer, room, False, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = self.api.llama_detokenize(self.vocabulary, tokens, len(ids), buffer, -size, False, False)
        return buffer.raw[:size].decode("utf-8", "replace")

    def token_text(self, token: int) -> str | None:
        """The text of a (special) token as the file holds it, or None for -1 ("there is none")."""
        if token < 0:
            return None
        return str(self.api.llama_vocab_get_text(self.vocabulary, token).decode("utf-8", "replace"))

    def bos(self) -> int:
        return int(self.api.llama_vocab_bos(self.vocabulary))

    def adds_bos(self) -> bool:
        """Whether the tokenizer puts BOS before plain text."""
        return self.bos() >= 0 and bool(self.api.llama_vocab_get_add_bos(self.vocabulary))

    def eos(self) -> int:
        return int(self.api.llama_vocab_eos(self.vocabulary))

    def ends_generation(self) -> tuple[int, ...]:
        """Every token at which llama.cpp stops: eos, eot and those it recognises by their text."""
        return tuple(token for token in range(self.vocab_size) if self.api.llama_vocab_is_eog(self.vocabulary, token))

    def put_on(self, adapter: Path) -> None:
        """Load a GGUF LoRA adapter; contexts made from now on apply it, at scale 1. It is freed with the model."""
        _log.clear()
        self.adapter = self.api.llama_adapter_lora_init(self.handle, str(adapter).encode())
        if not self.adapter:
            raise ModelError(
                f"llama.cpp cannot put this adapter on {self.path.name}: {_reason()}",
                where=adapter,
                do="give the GGUF file of the base that it was trained on",
            )

    def close(self) -> None:
        if self.handle:
            self.api.llama_model_free(self.handle)
            self.handle = self.adapter = None


class LlamaContext:
    """One sequence in a KV cache of `size` tokens. `past` are the ids it holds."""

    def __init__(self, model: LlamaModel, size: int, threads: int) -> None:
        self.model = model
        self.size = max(size, min(_LEAST_CONTEXT, model.context_length))
        self.past: list[int] = []
        self._api = model.api
        parameters = self._api.llama_context_default_params()
        self.chunk = max(16, min(512, self.size, _OUTPUT_FLOATS // model.vocab_size))
        parameters.n_ctx = self.size
        parameters.n_batch = self.chunk
        parameters.n_ubatch = self.chunk
        parameters.n_threads = threads
        parameters.n_threads_batch = threads
        parameters.no_perf = True
        _log.clear()
        self.handle = self._api.llama_init_from_model(model.handle, parameters)
        if not self.handle:
            raise ModelError(f"llama.cpp cannot make a context of {self.size} tokens: {_reason()}", where=model.path)
        if model.adapter:
            adapters = (self._api.llama_adapter_lora_p_ctypes * 1)(model.adapter)
            if self._api.llama_set_adapters_lora(self.handle, adapters, 1, (ctypes.c_float * 1)(1.0)):
                raise ModelError("llama.cpp cannot apply the adapter", where=model.path)
        self._memory = self._api.llama_get_memory(self.handle)
        self._batch = self._api.llama_batch_init(self.chunk, 0, 1)

    def clear(self) -> None:
        self._api.llama_memory_clear(self._memory, True)
        self.past = []

    def keep_prefix(self, ids: Sequence[int]) -> int:
        """Drop from the cache what is not a prefix of `ids`, and at least their last token; the number kept."""
        limit = min(len(self.past), len(ids) - 1)
        kept = next((i for i in range(limit) if self.past[i] != ids[i]), limit)
        if kept < len(self.past):
            if kept == 0 or not self._api.llama_memory_seq_rm(self._memory, 0, kept, -1):
                self.clear()  # a recurrent state cannot be cut back
                return 0
            del self.past[kept:]
        return kept

    def read(self, ids: Sequence[int], *, every: bool, last: int = 1) -> NDArray[np.float32]:
        """Decode `ids` behind the past: float32[T, V] logits after each (`every`) or after the `last` ones of them."""
        import numpy as np

        parts = []
        first = 0 if every else len(ids) - last
        for start in range(0, len(ids), self.chunk):
            piece = ids[start : start + self.chunk]
            wanted = max(0, min(len(piece), start + len(piece) - first))
            self._fill(piece, wanted)
            self._decode()
            self.past.extend(piece)
            if wanted:
                pointer = self._api.llama_get_logits(self.handle)
                view = np.ctypeslib.as_array(pointer, shape=(wanted * self.model.vocab_size,))
                parts.append(view.reshape(wanted, self.model.vocab_size).copy())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _fill(self, piece: Sequence[int], wanted: int) -> None:
        """The batch, with logits asked for after the last `wanted` ids."""
        batch = self._batch
        batch.n_tokens = len(piece)
        for i, token in enumerate(piece):
            batch.token[i] = token
            batch.pos[i] = len(self.past) + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i >= len(piece) - wanted

    def _decode(self) -> None:
        _log.clear()
        code = self._api.llama_decode(self.handle, self._batch)
        if code != 0:
            self.clear()
            raise StorageError(f"llama.cpp could not decode (code {code}): {_reason()}", where=self.model.path)

    def close(self) -> None:
        if self.handle:
            self._api.llama_batch_free(self._batch)
            self._api.llama_free(self.handle)
            self.handle = None


def _reason() -> str:
    """llama.cpp's own words about its last failure, without its function names."""
    lines = [line for line in _log if line]
    return " · ".join(line.partition(": ")[2] or line for line in lines[-2:]) or "it gives no reason"
