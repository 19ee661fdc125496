"""Which of llama.cpp's pre-tokenizers a tokenizer.json is, told by its structure.

llama.cpp's own converter hashes the encoding of a test string and so refuses a known tokenizer with a token more; what
decides is the splitting pattern, so that is what is compared. Used by `vocab`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError

_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _TAIL
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _TAIL
_QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# (what splits, whether a word that is a token skips the merges) -> llama.cpp's name for it
_KNOWN: dict[tuple[tuple[str, ...], bool], str] = {
    ((_QWEN2,), False): "qwen2",
    ((_QWEN35,), False): "qwen35",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "smaug-bpe",  # the same pattern without `ignore_merges`
    (("bytes",), False): "gpt-2",
    (("digits", "bytes"), False): "smollm",
}


def recognise(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer. A `ModelError` lists the known ones."""
    model = tokenizer.get("model") or {}
    steps = _steps(tokenizer.get("pre_tokenizer"))
    name = _KNOWN.get((steps, bool(model.get("ignore_merges")))) if steps else None
    if name is None:
        raise ModelError(
            "tokenizer.json splits text in a way that edgeft cannot express in GGUF",
            do=f"known: {', '.join(sorted(_KNOWN.values()))}",
        )
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ModelError(f"tokenizer.json normalises text with {normalizer.get('type')!r}; llama.cpp does not")
    return name


def _steps(pre: Any) -> tuple[str, ...] | None:
    """The splitting steps: patterns, "digits" and "bytes" (GPT-2's own pattern); None when one is something else."""
    if not isinstance(pre, Mapping):
        return None
    parts = pre.get("pretokenizers", []) if pre.get("type") == "Sequence" else [pre]
    found: list[str] = []
    for number, part in enumerate(parts):
        step = _step(part, last=number == len(parts) - 1)
        if step is None:
            return None
        found.extend(step)
    return tuple(found)


def _step(part: Mapping[str, Any], *, last: bool) -> list[str] | None:
    kind = part.get("type")
    if kind == "Split":
        pattern = (part.get("pattern") or {}).get("Regex")
        plain = part.get("behavior") == "Isolated" and not part.get("invert")
        return [pattern] if pattern and plain else None
    if kind == "Digits":
        return ["digits"] if part.get("individual_digits") else None
    if kind == "ByteLevel" and last and not part.get("add_prefix_space"):
        return ["bytes"] if part.get("use_regex", True) else []
    return None
