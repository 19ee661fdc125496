"""A folder's tokenizer files as a `Vocabulary`: the form is told by the tokenizer's structure. Called by `export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab import bpe, sentencepiece, unigram, wordpiece
from edgeft.exporters.gguf.vocab.added import check_distinct, check_flags
from edgeft.exporters.gguf.vocab.added import read_table as read_tokens
from edgeft.exporters.gguf.vocab.form import Vocabulary, settled
from edgeft.exporters.gguf.vocab.opened import opened
from edgeft.exporters.gguf.vocab.special import added_to_texts, chat_templates, special_tokens, token_text
from edgeft.exporters.gguf.vocab.table import Form, Table
from edgeft.weights.checkpoint import read_table


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read tokenizer.json and what lies beside it. A `ModelError` for a tokenizer that llama.cpp cannot be, or one that
    does not fit the model (`vocab_size` of its config)."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError("there is no tokenizer.json; edgeft writes GGUF vocabularies from it", where=folder)
    settings = read_table(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    table = read_table(path)
    try:
        return _read(folder, opened(table, settings, config), settings, config)
    except ModelError as error:
        raise ModelError(error.what, where=error.where or path, do=error.do) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"tokenizer.json is not as the tokenizers library writes it ({error!r})", where=path) from None


def _read(
    folder: Path, tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> Vocabulary:
    table = read_tokens(tokenizer, int(config["vocab_size"]))
    template, named = chat_templates(folder, settings)
    special = special_tokens(folder, tokenizer, settings, config)
    texts = dict(enumerate(table.tokens))  # before a form writes them in its own way
    add_bos, add_eos = added_to_texts(tokenizer, settings, texts, special)
    strips_right, differences = check_flags(table, mask=token_text(settings, "mask"))
    form = _form(tokenizer, table, config)
    check_distinct(table.tokens)
    vocabulary = Vocabulary(
        pre=form.pre,
        tokens=table.tokens,
        types=table.types,
        merges=form.merges or [],
        special=special,
        add_bos=add_bos,
        add_eos=add_eos,
        template=template,
        model=form.model,
        scores=form.scores,
        templates=named,
        settings=form.settings,
        strips_right=strips_right,
        differences=form.differences + differences,
        space_at_start_only=form.space_at_start_only,
    )
    return settled(vocabulary)


def _form(tokenizer: Mapping[str, Any], table: Table, config: Mapping[str, Any]) -> Form:
    kind = _kind(tokenizer["model"])
    if kind == "BPE":
        if bpe.is_byte_level(tokenizer):
            return bpe.read(tokenizer, table)
        return sentencepiece.read(tokenizer, table)
    if kind == "Unigram":
        return unigram.read(tokenizer, table)
    if kind == "WordPiece":
        return wordpiece.read(tokenizer, table, int(config.get("type_vocab_size", 1)))
    raise ModelError(
        f"edgeft cannot write a {kind} vocabulary as GGUF", do="known: BPE, Unigram and WordPiece of tokenizer.json"
    )


def _kind(model: Mapping[str, Any]) -> str:
    """The model's type, which older files leave out."""
    if "type" in model:
        return str(model["type"])
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model["vocab"], list) else "WordPiece"
