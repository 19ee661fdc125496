"""Byte-level BPE (GPT-2, Llama 3, Qwen, …): llama.cpp's "gpt2" model. Called by `read`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.form import NORMAL
from edgeft.exporters.gguf.vocab.merging import Ranks, assemble, ranks_of
from edgeft.exporters.gguf.vocab.pretokenizer import Recognised, recognise
from edgeft.exporters.gguf.vocab.table import Form, Table
from edgeft.exporters.gguf.vocab.taken import free

# Bytes that some UTF-8 text holds; 0 ends a C string, so no runtime is ever given it.
_BYTES_OF_TEXT = frozenset(range(1, 0xC0)) | frozenset(range(0xC2, 0xF5))

# All other ways to split end a word between a letter and a sign behind it: no text leads to a token like "</s>".
_KEEPS_SIGNS_WITH_LETTERS = ("bloom", "viking")
_MARKS = (
    "llama.cpp splits combining marks (accents written apart, vowel signs of Indic scripts and Thai) from their "
    "letters, the tokenizer does not"
)
_NEW_NAME = "only a llama.cpp that knows {name!r} opens the file; the older {old!r} splits marks from their letters"

_DROPPED = (
    "{count} bytes have no token ({some}…) and are dropped; what stands on both sides is merged by the tokenizer, not "
    "by llama.cpp"
)


def is_byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether text becomes bytes before the merges, told by the pre-tokenizer and by the decoder."""
    parts = [tokenizer.get("pre_tokenizer") or {}, tokenizer.get("decoder") or {}]
    while parts:
        part = parts.pop()
        if part.get("type") == "ByteLevel":
            return True
        parts += [*(part.get("pretokenizers") or ()), *(part.get("decoders") or ())]
    return False


def read(tokenizer: Mapping[str, Any], table: Table) -> Form:
    """A `ModelError` where llama.cpp would give other ids: splits it does not know, affixes, bytes without a token."""
    model = tokenizer["model"]
    check_model(model)
    pre = recognise(tokenizer)
    ranks = ranks_of(model["merges"])
    symbols = byte_symbols()
    lacking = sorted(byte for byte in _BYTES_OF_TEXT if symbols[byte] not in model["vocab"])
    if lacking and model.get("unk_token"):
        raise ModelError(
            f"the vocabulary has no token for {len(lacking)} bytes ({', '.join(map(hex, lacking[:4]))}…); llama.cpp "
            "drops characters that hold them, the tokenizer puts its unknown token there"
        )
    name, differences = _name(pre, model, table, ranks)
    differences += free(table, lambda _: name in _KEEPS_SIGNS_WITH_LETTERS)
    in_order = sorted(ranks, key=ranks.__getitem__)
    merges = [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in in_order]
    if lacking:
        differences += (_DROPPED.format(count=len(lacking), some=", ".join(map(hex, lacking[:4]))),)
    return Form("gpt2", name, merges=merges, differences=differences)


def check_model(model: Mapping[str, Any]) -> None:
    """Settings of a BPE that GGUF has no word for."""
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise ModelError(f"the tokenizer uses {name}; GGUF cannot say that")


def _name(pre: Recognised, model: Mapping[str, Any], table: Table, ranks: Ranks) -> tuple[str, tuple[str, ...]]:
    """The pre-tokenizer's name, and what it does otherwise. Whether words that are tokens skip the merges, and where a
    word ends, only matter where a token is not what its merges make or lies across that end: the vocabulary tells."""
    normal = [text for text, kind in zip(table.tokens, table.types, strict=True) if kind == NORMAL]
    unmade = next((text for text in normal if len(text) > 1 and len(assemble(text, ranks)[0]) > 1), None) if (
        pre.needs_merges or pre.loses_marks
    ) else None  # fmt: skip
    decoded = _decoded(normal) if pre.loses_marks else []
    if any(_holds_mark(text) for text in decoded):
        if pre.with_marks and unmade is None and not (pre.name == "tekken" and any(map(_is_no_tekken_word, decoded))):
            return pre.with_marks, (_NEW_NAME.format(name=pre.with_marks, old=pre.name),)
        return pre.name, (_MARKS,)
    if pre.needs_merges and unmade is not None:
        verb = "takes" if model.get("ignore_merges") else "does not take"
        raise ModelError(
            f"tokenizer.json {verb} a word that is a token as it is (ignore_merges), llama.cpp's {pre.name!r} does "
            f"otherwise, and {unmade!r} is not what its merges make"
        )
    return pre.name, ()


def _decoded(symbols: list[str]) -> list[str]:
    """The texts of byte-level tokens; bytes of characters that are not whole are left out."""
    byte_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    return [bytes(byte_of[c] for c in text if c in byte_of).decode("utf-8", "ignore") for text in symbols]


def _holds_mark(text: str) -> bool:
    return len(text) > 1 and any(unicodedata.category(c).startswith("M") for c in text)


def _is_no_tekken_word(text: str) -> bool:
    """Tekken's words hold one digit at most, and never a letter before an apostrophe; the name that keeps marks would
    let such tokens be made."""
    pairs = [(unicodedata.category(one)[0], unicodedata.category(two)[0], two) for one, two in pairwise(text)]
    return any((one == two == "N") or (one == "L" and char == "'") for one, two, char in pairs)


def byte_symbols() -> dict[int, str]:
    """Byte -> the character that stands for it in a byte-level vocabulary (GPT-2's table: printable ones stand for
    themselves, the others in order for those from U+0100 on)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}
