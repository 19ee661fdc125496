"""What an onnxruntime-genai folder says about itself, read and checked before any library opens it.

A folder may have been downloaded. Refused here: a graph or weight file outside the folder or behind a symbolic link
that leaves it, weight files shorter than the graph says, and settings that load native code (`custom_ops_library`,
execution providers by library path).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.files import inside, is_lfs_pointer, read_json

CONFIG = "genai_config.json"
ADAPTER = ".onnx_adapter"
_NATIVE_CODE = ("custom_ops_library", "ep_library", "library_path", "shared_lib_path")


@dataclass(frozen=True)
class OnnxFolder:
    """A checked folder. `precision` is read from the graph: "int4", "int8", "fp16", "fp32"."""

    path: Path
    graph: Path
    precision: str
    vocab_size: int
    context_length: int
    stop_ids: tuple[int, ...]
    chat_template: str | None
    special_tokens: Mapping[str, str]  # "bos_token" -> "<s>"
    special_ids: frozenset[int]
    weight_bytes: int
    head_size: int
    caches: Mapping[str, str]  # input of the graph that holds the cache -> the output that is it afterwards
    adapters: tuple[Path, ...]  # adapter files beside the graph
    begins: tuple[int, ...] = ()  # what the tokenizer puts before plain text
    prefix_id: int | None = None  # what a text that stands alone begins with: BOS, else the first end of text

    def adapter_file(self, name: str | None) -> Path | None:
        """The file of an adapter by its name. None: the only one there is, or no adapter. "": none of them."""
        if name is None and len(self.adapters) <= 1:
            return next(iter(self.adapters), None)
        if name == "":
            return None
        names = [path.name.removesuffix(ADAPTER) for path in self.adapters]
        if name not in names:
            wanted = f"there is no adapter {name!r}" if name else f"{len(names)} adapters lie beside the graph"
            raise ModelError(wanted, where=self.path, do=f"name one of them: {', '.join(names) or '(none)'}")
        return self.adapters[names.index(name)]


def read_folder(folder: Path) -> OnnxFolder:
    """Read and check a folder. Raises `ModelError` that names the file and what is wrong with it."""
    config = read_object(folder / CONFIG)
    model = config.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("decoder"), dict):
        raise ModelError("it describes no decoder", where=folder / CONFIG)
    _refuse_native_code(config, folder / CONFIG)
    graph = inside_folder(folder, model["decoder"].get("filename", "model.onnx"), folder / CONFIG)
    precision, weight_bytes = check_graph(folder, graph)
    tokens, special_ids = special_tokens_of(folder)
    stop = model.get("eos_token_id")
    return OnnxFolder(
        path=folder,
        graph=graph,
        precision=precision,
        vocab_size=_whole_number(model, "vocab_size", folder),
        context_length=_whole_number(model, "context_length", folder),
        stop_ids=tuple(stop) if isinstance(stop, list) else (() if stop is None else (int(stop),)),
        chat_template=chat_template_of(folder),
        special_tokens=tokens,
        special_ids=special_ids,
        weight_bytes=weight_bytes,
        head_size=int(model["decoder"].get("head_size") or 0),
        caches=_caches(model["decoder"]),
        adapters=tuple(inside_folder(folder, path.name, folder) for path in sorted(folder.glob(f"*{ADAPTER}"))),
        prefix_id=(prefix := _prefix_id(folder, model, tokens)),
        begins=_begins(folder, prefix),
    )


def _caches(decoder: Mapping[str, Any]) -> dict[str, str]:
    inputs, outputs = decoder.get("inputs") or {}, decoder.get("outputs") or {}
    found = {}
    for key, pattern in inputs.items():
        after = outputs.get("present_" + key.removeprefix("past_"))
        if key.startswith("past_") and isinstance(pattern, str) and isinstance(after, str):
            for layer in range(int(decoder.get("num_hidden_layers") or 0)):
                found[pattern.replace("%d", str(layer))] = after.replace("%d", str(layer))
    return found


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise ModelError(f"the folder has no {path.name}", where=path.parent) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"not valid JSON ({error})", where=path) from None
    if not isinstance(value, dict):
        raise ModelError("a JSON object is expected", where=path)
    return value


def _whole_number(model: Mapping[str, Any], key: str, folder: Path) -> int:
    value = model.get(key)
    if not isinstance(value, int) or value <= 0:
        raise ModelError(f"model.{key} must be a positive whole number, not {value!r}", where=folder / CONFIG)
    return value


def _refuse_native_code(value: Any, where: Path) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in _NATIVE_CODE and entry:
                raise ModelError(
                    f"{key!r} would load native code; edgeft does not", where=where, do="remove that setting"
                )
            _refuse_native_code(entry, where)
    elif isinstance(value, list):
        for entry in value:
            _refuse_native_code(entry, where)


def inside_folder(folder: Path, name: Any, where: Path) -> Path:
    """The path of a file named in `where`; refused when it leaves the folder or is not there."""
    path = inside(folder, name) if isinstance(name, str) and name else None
    if path is None:
        raise ModelError(f"{name!r} points outside the model's folder", where=where, do="do not open this file")
    if not path.is_file():
        raise ModelError(f"the file {name!r} is missing", where=folder)
    if is_lfs_pointer(path):
        raise ModelError("this is a Git LFS pointer, not the model", where=path, do="run: git lfs pull")
    return path


def check_graph(folder: Path, path: Path) -> tuple[str, int]:
    """(precision, bytes of the weights) of a graph whose external data has been checked; the weights are not read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise ModelError("this is not a readable ONNX file", where=path) from None
    needed: dict[Path, int] = {}
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = inside_folder(folder, entries.get("location"), path)
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        needed[data] = max(needed.get(data, 0), end)
    for data, size in needed.items():
        if data.stat().st_size < size:
            raise ModelError(f"the file is cut off: {size} bytes are needed", where=data, do="copy or export it again")
    return _precision(model.graph), sum(needed.values()) or path.stat().st_size


def _tensors(graph: Any) -> Any:
    """Every tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _precision(graph: Any) -> str:
    """What most of the matrix products are made of."""
    import onnx

    bits: list[int] = []
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            bits += [attribute.i for attribute in node.attribute if attribute.name == "bits"]
    if bits:
        return f"int{max(set(bits), key=bits.count)}"
    halves = sum(1 for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16)
    return "fp16" if 2 * halves > len(graph.initializer) else "fp32"


def _begins(folder: Path, prefix: int | None) -> tuple[int, ...]:
    """The BOS that tokenizer.json puts before plain text, if it does."""
    if not (folder / "tokenizer.json").is_file():
        return ()
    from tokenizers import Tokenizer

    try:
        ids = tuple(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("").ids)
    except Exception:  # the library's own, without a class; what runs the folder opens the file too, and says it
        return ()
    return ids if ids == (prefix,) else ()


def _prefix_id(folder: Path, model: Mapping[str, Any], tokens: Mapping[str, str]) -> int | None:
    """BOS where the tokenizer has one (genai_config.json names one even where it does not), else its end of text."""
    vocabulary = folder / "tokenizer.json"
    added = read_object(vocabulary).get("added_tokens") or [] if vocabulary.is_file() else []
    for name in ("bos_token", "eos_token"):
        for entry in added:
            if name in tokens and entry["content"] == tokens[name]:
                return int(entry["id"])
    stop = model.get("eos_token_id")
    stop = stop[0] if isinstance(stop, list) and stop else stop
    return int(stop) if isinstance(stop, int) else None


def chat_template_of(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    value = read_object(config).get("chat_template") if config.is_file() else None
    return value if isinstance(value, str) else None


def special_tokens_of(folder: Path) -> tuple[dict[str, str], frozenset[int]]:
    """The special tokens a template may name, and the ids of all tokens that are left out of decoded text."""
    tokens: dict[str, str] = {}
    config = folder / "tokenizer_config.json"
    if config.is_file():
        for key, value in read_object(config).items():
            if key.endswith("_token"):
                text = value.get("content") if isinstance(value, dict) else value
                if isinstance(text, str):
                    tokens[key] = text
    ids: list[int] = []
    vocabulary = folder / "tokenizer.json"
    if vocabulary.is_file():
        added = read_object(vocabulary).get("added_tokens") or []
        ids = [int(entry["id"]) for entry in added if entry.get("special")]
    return tokens, frozenset(ids)
