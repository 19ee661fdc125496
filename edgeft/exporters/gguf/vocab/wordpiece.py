"""WordPiece (BERT): llama.cpp's "bert" model, which marks where words begin where BERT marks where they go on. Called
by `read`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.form import CONTROL, UNUSED
from edgeft.exporters.gguf.vocab.table import Form, Table

_LONG_WORDS = "words of more than {limit} characters are one unknown token for the tokenizer, not for llama.cpp"
_RARE = "vertical tab, form feed, U+0085 and punctuation newer than Unicode 8 end words in one of the two only"
_ACCENTS = (
    "llama.cpp drops all combining marks and keeps Hangul syllables whole; the tokenizer drops non-spacing marks and "
    "takes the syllables apart"
)


def read(tokenizer: Mapping[str, Any], table: Table, token_types: int) -> Form:
    """A `ModelError` for other normalisers and splits than BERT's own, which are what llama.cpp does. `token_types`:
    how many kinds of text the model tells apart (`type_vocab_size`)."""
    model = tokenizer["model"]
    if model.get("continuing_subword_prefix", "##") != "##":
        raise ModelError("this WordPiece vocabulary does not mark the inside of words with ##; llama.cpp's does")
    normalizer = tokenizer.get("normalizer") or {}
    wanted = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    if any(normalizer.get(key) != value for key, value in wanted.items()):
        raise ModelError(
            f"tokenizer.json normalises text with {normalizer.get('type')!r}; llama.cpp does as BERT's own"
        )
    if (tokenizer.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        raise ModelError("tokenizer.json does not split text as BERT does; llama.cpp does with this kind of vocabulary")
    lowercase = bool(normalizer.get("lowercase"))
    strips = normalizer.get("strip_accents")
    strips = lowercase if strips is None else bool(strips)
    for number, (text, kind) in enumerate(zip(table.tokens, table.types, strict=True)):
        if kind not in (CONTROL, UNUSED):
            table.tokens[number] = text.removeprefix("##") if text.startswith("##") else "▁" + text
    settings = (
        ("tokenizer.ggml.token_type_count", token_types, "uint32"),
        ("tokenizer.ggml.normalizer.lowercase", lowercase, "bool"),
        ("tokenizer.ggml.normalizer.strip_accents", strips, "bool"),
    )
    differences = [_LONG_WORDS.format(limit=model.get("max_input_chars_per_word", 100)), _RARE]
    if strips:
        differences.append(_ACCENTS)
    return Form("bert", settings=settings, differences=tuple(differences))
