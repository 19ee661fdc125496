"""A model's vocabulary as GGUF metadata, from tokenizer.json itself; used by `export` and, for its refusals, `check`.

`read` picks the form by the tokenizer's structure: `bpe` (byte-level), `sentencepiece` (merges over text with ▁, byte
fallback), `unigram`, `wordpiece`. `opened` is what training saw of the files, `added` the added tokens, `special` the
roles and chat templates, `form` what llama.cpp holds.
"""

from edgeft.exporters.gguf.vocab.form import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    as_taught,
    name_for,
    put_vocabulary,
)
from edgeft.exporters.gguf.vocab.read import read_vocabulary

__all__ = [
    "BYTE",
    "CONTROL",
    "NORMAL",
    "UNKNOWN",
    "UNUSED",
    "USER_DEFINED",
    "Vocabulary",
    "as_taught",
    "name_for",
    "put_vocabulary",
    "read_vocabulary",
]
