"""A base model with tokens that it did not have: a folder of its own, made once and kept in the user's cache.

Named by the base's reference with the tokens behind it, `builtin:sprout+["<tool>"]`: what is written so opens wherever
a base does, and everything that reads a base (tokenizing, training, merging, exporting) sees a whole model. The rows of
new tokens begin as the mean of those of the words in their names; training teaches them (`edgeft.training.adapter`).
Tokens are ordinary ones, not special: they stay in what the model says.

Called by `edgeft.models.base`. Only what holds rows of tokens is read; the rest of the weights is copied as it lies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeft import files
from edgeft.errors import ModelError
from edgeft.models.identity import base_digest

if TYPE_CHECKING:
    import torch

GROWN = ".grown"  # JSON: {"ref", "tokens": {token: id}}; no name that is copied into merged models
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VERSION = 1  # of the rows that new tokens begin with
_OF_TOKENS = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|lm_head|embed_out)\.(weight|bias)$"
)
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_COPIED = 1 << 24  # bytes at a time


def split(ref: str) -> tuple[str, list[str]]:
    """A reference's base and its tokens: none of most references."""
    for match in re.finditer(r"\+(?=\[)", ref):
        try:
            tokens = json.loads(ref[match.end() :])
        except ValueError:
            continue
        if (
            match.start()
            and isinstance(tokens, list)
            and tokens
            and all(isinstance(one, str) and one for one in tokens)
        ):
            return ref[: match.start()], tokens
    return ref, []


def joined(base: str, tokens: Sequence[str]) -> str:
    """The reverse of `split`."""
    return f"{base}+{json.dumps(list(tokens), ensure_ascii=False)}" if tokens else base


def tokens_of(folder: Path) -> dict[str, int]:
    """The tokens that the base in a folder was given, with their ids; none of most bases."""
    path = folder / GROWN
    return dict(files.read_json(path)["tokens"]) if path.is_file() else {}


def reference_of(folder: Path) -> str | None:
    """How the base in a folder made here is named; None for others."""
    path = folder / GROWN
    return str(files.read_json(path)["ref"]) if path.is_file() else None


def place_of(folder: Path, tokens: Sequence[str]) -> Path:
    """Where the base in `folder` with these tokens lies, or would."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    what = files.canonical_json([_VERSION, base_digest(folder), list(tokens)])
    return cache / "edgeft" / "grown" / files.digest_text(what)[:32]


def check_tokens(folder: Path, tokens: Sequence[str]) -> None:
    """A `ModelError` for tokens that cannot be added. Reads tokenizer.json, imports nothing heavy."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError("tokens can be added to a tokenizer.json only, and the base has none", where=folder)
    table = files.read_json(path)
    vocabulary = table.get("model", {}).get("vocab", ())
    known = {entry[0] for entry in vocabulary} if isinstance(vocabulary, list) else set(vocabulary)
    known |= {entry["content"] for entry in table.get("added_tokens", ())}
    for token in tokens:
        if token in known:
            raise ModelError(
                f"added_tokens: {token!r} is a token of the base model already",
                do="to train its row write it in train.trainable_tokens",
            )


def grow(folder: Path, ref: str, tokens: Sequence[str]) -> Path:
    """The folder of the base in `folder` with `tokens`, made when it is not there. `ModelError` when they cannot be
    added; `StorageError` and the like when it cannot be written."""
    place = place_of(folder, tokens)
    if (place / GROWN).is_file():
        return place
    check_tokens(folder, tokens)
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    files.remove_tree(partial)
    partial.mkdir(parents=True)
    try:
        _write(folder, partial, ref, tokens)
        files.sync_tree(partial)
        if not place.exists():  # else another process was faster, with the same bytes
            partial.replace(place)
    finally:
        files.remove_tree(partial)
    return place


@dataclass(frozen=True)
class _Growth:
    """New rows: how many a table has then, and the rows that each new one is the mean of (none: all of them)."""

    old: int
    new: int
    means: Mapping[int, Sequence[int]]


def _write(folder: Path, partial: Path, ref: str, tokens: Sequence[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith((".partial", ".index.json")):
            shutil.copyfile(path, partial / path.name)
    found, means = _grow_tokenizer(partial, tokens)
    config = files.read_json(folder / "config.json")
    holder = config if "vocab_size" in config else config.get("text_config", {})
    if not isinstance(holder.get("vocab_size"), int):
        raise ModelError("the base's config.json has no vocab_size", where=folder)
    growth = _Growth(holder["vocab_size"], max(holder["vocab_size"], 1 + max(found.values())), means)
    holder["vocab_size"] = growth.new
    files.write_json(partial / "config.json", config)
    grown = [name for path in sorted(folder.glob("*.safetensors")) for name in _grow_shard(path, partial, growth)]
    if not any(name.endswith("weight") and "head" not in name for name in grown):
        raise ModelError("the base's embeddings are called otherwise than edgeft knows: no tokens can be added")
    for path in sorted(folder.glob("*.index.json")):
        index = files.read_json(path)
        sizes = sum((partial / shard).stat().st_size for shard in set(index["weight_map"].values()))
        files.write_json(partial / path.name, {**index, "metadata": {**index.get("metadata", {}), "total_size": sizes}})
    files.write_json(partial / GROWN, {"ref": ref, "tokens": found})


def _grow_tokenizer(folder: Path, tokens: Sequence[str]) -> tuple[dict[str, int], dict[int, list[int]]]:
    """Write the tokens into tokenizer.json and tokenizer_config.json: their ids, and the ids of the words in them."""
    from tokenizers import AddedToken, Tokenizer

    path = folder / "tokenizer.json"
    old, new = Tokenizer.from_file(str(path)), Tokenizer.from_file(str(path))
    new.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    found = {token: number for token in tokens if (number := new.token_to_id(token)) is not None}
    means = {}
    for token, number in found.items():
        words = " ".join(re.findall(r"[^\W_]+", token))
        means[number] = list(old.encode(words, add_special_tokens=False).ids)
    table = files.read_json(path)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    table.setdefault("added_tokens", [])
    table["added_tokens"] += [{"id": number, "content": token, **plain} for token, number in found.items()]
    files.write_json(path, table)
    config_path = folder / "tokenizer_config.json"
    config = files.read_json(config_path) if config_path.is_file() else {}
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] |= {str(number): {"content": token, **plain} for token, number in found.items()}
        files.write_json(config_path, config)
    again = Tokenizer.from_file(str(path))
    for token, number in found.items():
        if again.encode(f"a{token}b", add_special_tokens=False).ids.count(number) != 1:
            raise ModelError(f"added_tokens: {token!r} is not read as one token by this base's tokenizer", where=folder)
    return found, means


def _grow_shard(source: Path, folder: Path, growth: _Growth) -> list[str]:
    """Write a shard with longer tables of tokens; the names of those. Everything else is copied byte by byte."""
    with source.open("rb") as stream:
        header, start = _header(stream)
        metadata = header.pop("__metadata__", None)
        names = sorted(header, key=lambda name: header[name]["data_offsets"])
        grown = [name for name in names if _OF_TOKENS.search(name) and header[name]["shape"][:1] == [growth.old]]
        written: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
        at = 0
        for name in names:
            entry = header[name]
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            shape = entry["shape"]
            if name in grown:
                size, shape = size // growth.old * growth.new, [growth.new, *shape[1:]]
            written[name] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [at, at + size]}
            at += size
        with (folder / source.name).open("wb") as target:
            head = json.dumps(written, separators=(",", ":")).encode()
            head += b" " * (-len(head) % 8)
            target.write(len(head).to_bytes(8, "little") + head)
            for name in names:
                first, last = header[name]["data_offsets"]
                stream.seek(start + first)
                if name in grown:
                    target.write(_longer(stream.read(last - first), name, header[name], growth))
                else:
                    _copy(stream, target, last - first)
    return grown


def _header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begins."""
    size = int.from_bytes(stream.read(8), "little")
    return json.loads(stream.read(size)), 8 + size


def _copy(stream: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        data = stream.read(min(size, _COPIED))
        if not data:
            raise ModelError("the checkpoint is cut off", where=stream.name, do="copy or download it again")
        target.write(data)
        size -= len(data)


def _longer(data: bytes, name: str, entry: Mapping[str, Any], growth: _Growth) -> bytes:
    """A table of tokens with its new rows, rounded once to its dtype."""
    import torch

    if entry["dtype"] not in _DTYPES:
        raise ModelError(f"rows cannot be added to {name!r}, which has the dtype {entry['dtype']}")
    dtype: torch.dtype = getattr(torch, _DTYPES[entry["dtype"]])
    old = torch.frombuffer(bytearray(data), dtype=dtype).reshape(entry["shape"])
    new = torch.cat([old, old.new_zeros(growth.new - growth.old, *old.shape[1:])])
    for number, pieces in growth.means.items():
        new[number] = (old[list(pieces)] if pieces else old).float().mean(dim=0).to(dtype)
    return new.contiguous().view(torch.uint8).numpy().tobytes()
