"""An exported classifier in plain ONNX Runtime: the `Classifier` protocol over its folder, without torch.

Opened by `edgeft.runtimes.open_any` and the `verify` stage. Token ids come from the folder's own tokenizer.json,
because that is what ships; a text that is longer than the graph may read is cut as training cut it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeft.errors import MissingError, ModelError
from edgeft.models import template
from edgeft.runtimes.answer import check_ids
from edgeft.runtimes.classifier import Asked, softmax, together
from edgeft.runtimes.onnx_folder import chat_template_of, check_graph, inside_folder, read_object, special_tokens_of
from edgeft.runtimes.protocol import Message
from edgeft.runtimes.references import LABELS
from edgeft.runtimes.threads import choose_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRAPH = "model.onnx"
_BATCH_TOKENS = 16_384


class OnnxClassifier:
    """The `Classifier` protocol over a folder that edgeft exported. Raises `ModelError` when it is no such folder, is
    unsafe, or does not load."""

    def __init__(self, folder: Path, *, context_length: int | None = None, threads: int | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        head = read_object(folder / LABELS)
        self.labels = _labels(head, folder / LABELS)
        longest = _whole(head, "max_length", folder / LABELS)
        self._pad, self._ends = _whole(head, "pad_id", folder / LABELS, least=0), int(head.get("ends") or 0)
        graph = inside_folder(folder, GRAPH, folder)
        precision, size = check_graph(folder, graph)
        self.name = f"onnx {precision}"
        self.context_length = min(context_length or longest, longest)
        self.batch_tokens = _BATCH_TOKENS
        self.threads = choose_threads(threads, size // 2)
        self._folder, self._template = folder, chat_template_of(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # onnxruntime and tokenizers raise classes that derive from Exception only
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"ONNX Runtime cannot load this folder: {lines[0]}", where=folder) from None
        self._vocab_size = int(self._tokenizer.get_vocab_size())

    def encode(self, row: str | Sequence[Message]) -> list[int]:
        if isinstance(row, str):
            return self.shortened([int(token) for token in self._tokenizer.encode(row).ids], text=True)
        if self._template is None:
            raise ModelError("the folder has no chat template (chat_template.jinja)", where=self._folder)
        text = template.render(
            self._template, row, variables=special_tokens_of(self._folder)[0], where=str(self._folder)
        )
        ids = [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).ids]
        return self.shortened(ids, text=False)

    def shortened(self, ids: Sequence[int], *, text: bool) -> list[int]:
        """At most as many ids as the graph may read, cut as training cut them: what the tokenizer puts behind a text
        stays."""
        ends = self._ends if text else 0
        if len(ids) <= self.context_length:
            return list(ids)
        return [*ids[: self.context_length - ends], *ids[len(ids) - ends :]]

    def classify(self, rows: Sequence[Asked], *, on_done: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        import numpy as np

        ids = [self._ids(row) for row in rows]
        values = np.zeros((len(rows), len(self.labels)), np.float32)
        for chosen in together([len(row) for row in ids], self.batch_tokens):
            values[chosen] = self._read([ids[i] for i in chosen])
            if on_done is not None:
                on_done(len(chosen))
        return softmax(values)

    def _ids(self, row: Asked) -> list[int]:
        asked: Any = row
        ids: Any = self.encode(asked) if isinstance(row, str) or (row and isinstance(row[0], Mapping)) else row
        check_ids(ids, vocab_size=self._vocab_size, context_length=self.context_length, where=str(self._folder))
        return list(ids)

    def _read(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """float32[n, labels] of what the head says."""
        import numpy as np

        ids = np.full((len(rows), max(len(row) for row in rows)), self._pad, np.int64)
        mask = np.zeros_like(ids)
        for line, row in enumerate(rows):
            ids[line, : len(row)], mask[line, : len(row)] = row, 1
        try:
            (found,) = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"ONNX Runtime cannot run this classifier: {lines[-1]}", where=self._folder) from None
        if found.shape != (len(rows), len(self.labels)):
            raise ModelError(
                f"the graph gives {found.shape[-1]} values for {len(self.labels)} labels", where=self._folder / LABELS
            )
        values: NDArray[np.float32] = np.asarray(found, np.float32)
        return values

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> OnnxClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_folder(folder: Path, *, context_length: int | None = None, threads: int | None = None) -> OnnxClassifier:
    """Open an exported classifier. `MissingError` without ONNX Runtime."""
    for module in ("onnx", "onnxruntime", "tokenizers"):
        if find_spec(module) is None:
            raise MissingError(f"this needs {module}", do="pip install 'edgeft[onnx]'")
    return OnnxClassifier(folder, context_length=context_length, threads=threads)


def is_classifier(folder: Path) -> bool:
    """Whether a folder is an exported classifier."""
    return (folder / LABELS).is_file() and (folder / GRAPH).is_file()


def _labels(head: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    labels = head.get("labels")
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise ModelError("labels must be a list of two names or more", where=where)
    return tuple(labels)


def _whole(head: Mapping[str, Any], key: str, where: Path, least: int = 1) -> int:
    value = head.get(key)
    if not isinstance(value, int) or value < least:
        raise ModelError(f"{key} must be a whole number from {least} on, not {value!r}", where=where)
    return value
