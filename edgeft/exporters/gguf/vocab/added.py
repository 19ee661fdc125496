"""The tokens by id, and added tokens: which kind each is, and what of their flags llama.cpp cannot say. For `read`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.form import CONTROL, NORMAL, UNUSED, USER_DEFINED
from edgeft.exporters.gguf.vocab.table import Added, Table

# llama.cpp looks for these when it strips white space behind special tokens (see `name_for`), and those that keep it.
_STRIPPING_NEEDS = frozenset({"<unk>", "<s>", "</s>", "<|endoftext|>"})
_NEVER_STRIP = frozenset({"<unk>", "<s>", "<|endoftext|>"})


def vocabulary_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Text -> id of a tokenizer's model, without added tokens; Unigram lists [text, score] in the order of ids."""
    vocab = model["vocab"]
    if isinstance(vocab, list):
        return {text: number for number, (text, _) in enumerate(vocab)}
    return dict(vocab)


def read_table(tokenizer: Mapping[str, Any], size: int) -> Table:
    """Texts and types of `size` ids: what the tokenizer does not name is an unused [PADn], as llama.cpp's converter
    calls it. A `ModelError` for ids beyond, and for texts that stand twice."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    by_id = {number: (text, NORMAL) for text, number in vocabulary_of(tokenizer["model"]).items()}
    added = [
        Added(**{key: entry[key] for key in _FLAGS if key in entry}) for entry in tokenizer.get("added_tokens") or []
    ]
    for token in added:
        kind = CONTROL if token.special or looks_special(token.content) else USER_DEFINED
        by_id[token.id] = (token.content, kind)
    if by_id and max(by_id) >= size:
        raise ModelError(f"the tokenizer has ids up to {max(by_id)}, the model's vocab_size is {size}")
    for number, (text, kind) in by_id.items():
        tokens[number], types[number] = text, kind
    return Table(tokens, types, added)


_FLAGS = ("id", "content", "special", "single_word", "lstrip", "rstrip", "normalized")


def check_distinct(tokens: Sequence[str]) -> None:
    if len(set(tokens)) != len(tokens):
        raise ModelError("two token ids have the same text, which llama.cpp cannot hold")


def looks_special(text: str) -> bool:
    """Added tokens that are control tokens whatever their flag says, as llama.cpp's converter takes them."""
    framed = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        text.startswith(start) and text.endswith(end) for start, end in framed
    )


def check_flags(table: Table, *, mask: str | None) -> tuple[bool, tuple[str, ...]]:
    """Whether special tokens swallow the white space behind them in the one way that llama.cpp can, and what else it
    will do otherwise. A `ModelError` for tokens that only count as whole words: llama.cpp finds them inside words too.

    mask  the mask token's text: its `lstrip` (BERT-like tokenizers) is let pass, as text to be answered holds no mask
    """
    for token in table.added:
        if token.single_word:
            raise ModelError(
                f"the added token {token.content!r} is for whole words only (single_word): GGUF cannot say that"
            )
    differences = []
    strips = [token.content for token in table.added if token.rstrip]
    strips_right = bool(strips) and _strip_as_phi3(table)
    if strips and not strips_right:
        differences.append(f"llama.cpp keeps white space behind {_some(strips)}, the tokenizer drops it (rstrip)")
    strips = [token.content for token in table.added if token.lstrip and token.content != mask]
    if strips:
        differences.append(f"llama.cpp keeps white space before {_some(strips)}, the tokenizer drops it (lstrip)")
    pair = overlap([token.content for token in table.added])
    if pair:
        differences.append(
            f"where {pair[0]!r} and {pair[1]!r} overlap, llama.cpp finds the longer, the tokenizer the first"
        )
    return strips_right, tuple(differences)


def _some(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:3])) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _strip_as_phi3(table: Table) -> bool:
    """llama.cpp strips behind all special tokens but three, if all four that it looks for are there."""
    kinds = {text: kind for text, kind in zip(table.tokens, table.types, strict=True) if kind not in (NORMAL, UNUSED)}
    flags = {token.content: token.rstrip for token in table.added}
    return kinds.keys() >= _STRIPPING_NEEDS and all(
        flags.get(text, False) == (text not in _NEVER_STRIP) for text in kinds
    )


def overlap(texts: Sequence[str]) -> tuple[str, str] | None:
    """Two added tokens of which the second may begin inside the first and is not shorter. The tokenizers library finds
    the leftmost, llama.cpp the longest (in bytes) first; where a still longer one begins at the left they agree."""
    known = set(texts)
    starting: dict[str, list[str]] = {}
    for text in texts:
        for end in range(1, len(text)):
            starting.setdefault(text[:end], []).append(text)
    for first in texts:
        for start in range(1, len(first)):
            for second in starting.get(first[start:], ()):
                whole = first + second[len(first) - start :]
                longer = any(whole[:end] in known for end in range(len(first) + 1, len(whole) + 1))
                if second != first and not longer and len(second.encode()) >= len(first.encode()):
                    return first, second
    return None
