"""Unigram vocabularies (T5, ALBERT, XLM-R): llama.cpp's "t5" model, from tokenizer.json alone. Called by `read`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.form import SPACE_PREFIX, UNKNOWN
from edgeft.exporters.gguf.vocab.sentencepiece import SPACE, parts_of, scheme_of
from edgeft.exporters.gguf.vocab.table import Form, Table

_PADDING = -10000.0  # the score of ids that the tokenizer does not name
_COMPOSED = "letters written apart in more than five bytes (decomposed Hangul) are composed by llama.cpp only"


def read(tokenizer: Mapping[str, Any], table: Table) -> Form:
    """A `ModelError` where llama.cpp would give other ids: normalisers it does not have, byte fallback, no unknown
    token, white space that it would keep."""
    model = tokenizer["model"]
    if model.get("byte_fallback"):
        raise ModelError(
            "this Unigram vocabulary falls back to bytes; llama.cpp's falls back to the unknown token only"
        )
    if model.get("unk_id") is None:
        raise ModelError("this Unigram vocabulary has no unknown token, which llama.cpp needs")
    charsmap, collapses, strips = _normalizer(tokenizer.get("normalizer"))
    splits, scheme = _pre_tokenizer(tokenizer.get("pre_tokenizer"))
    if splits and charsmap is None:
        raise ModelError(
            "the tokenizer splits text at all white space; llama.cpp does at spaces only, and there is no precompiled "
            "charsmap that makes spaces of line breaks"
        )
    pieces = [text for text, _ in model["vocab"]]
    if splits and any(SPACE in text[1:] for text in pieces):
        raise ModelError(
            "the tokenizer splits text at spaces and yet has tokens with a space inside; llama.cpp would use them"
        )
    table.types[model["unk_id"]] = UNKNOWN
    scores = [float(score) for _, score in model["vocab"]]
    scores += [_PADDING] * (len(table.tokens) - len(scores))
    settings: list[tuple[str, Any, str]] = [
        (SPACE_PREFIX, scheme != "never", "bool"),
        ("tokenizer.ggml.remove_extra_whitespaces", splits or collapses, "bool"),
    ]
    if charsmap:
        settings.append(("tokenizer.ggml.precompiled_charsmap", charsmap, "array"))
    differences = _differences(splits, collapses, strips, scheme) + ((_COMPOSED,) if charsmap else ())
    return Form("t5", scores=scores, settings=tuple(settings), differences=differences)


def _differences(splits: bool, collapses: bool, strips: bool, scheme: str) -> tuple[str, ...]:
    found = []
    if scheme == "first":
        found.append("the tokenizer puts a space before the whole text only, llama.cpp also behind special tokens")
    if splits:
        found.append(
            "the control character U+0085 ends a word for the tokenizer, for llama.cpp it is a character as others"
        )
        return tuple(found)
    if collapses and not strips:
        found.append("llama.cpp drops spaces at the end of a text, the tokenizer keeps one")
    if not collapses and scheme != "never":
        found.append("the tokenizer puts a space before text only if there is none, llama.cpp also before a space")
    return tuple(found)


def _normalizer(normalizer: Any) -> tuple[bytes | None, bool, bool]:
    """(charsmap, whether runs of spaces become one, whether the ends are stripped)."""
    charsmap, collapses, strips = None, False, False
    for part in parts_of(normalizer, "normalizers"):
        kind = part.get("type")
        if kind == "Precompiled" and charsmap is None and not (collapses or strips):
            charsmap = base64.b64decode(part["precompiled_charsmap"] or "")
        elif kind == "Replace" and part["pattern"] == {"Regex": " {2,}"} and part.get("content") in (" ", SPACE):
            collapses = True
        elif kind == "Strip" and part.get("strip_right"):
            strips = True
        else:
            raise ModelError(f"tokenizer.json normalises text with {kind!r}; llama.cpp does not")
    return charsmap, collapses, strips


def _pre_tokenizer(pre: Any) -> tuple[bool, str]:
    """(whether text is split at white space, how spaces are put before it)."""
    splits, scheme = False, None
    for part in parts_of(pre, "pretokenizers"):
        kind = part.get("type")
        if kind == "WhitespaceSplit" and scheme is None:
            splits = True
        elif kind == "Metaspace" and part.get("replacement") == SPACE and scheme is None:
            scheme = scheme_of(part)
        else:
            raise ModelError(
                f"tokenizer.json splits text with {kind!r} before the vocabulary is used; llama.cpp does not"
            )
    if scheme is None or (splits and scheme != "always"):
        raise ModelError("the tokenizer does not write spaces as ▁ in llama.cpp's way")
    return splits, scheme
