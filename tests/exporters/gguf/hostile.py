"""Tokenizers and files that no GGUF can be made of: a name -> how a good folder is spoiled. For `test_golden`.

A case is `(kind, spoil)`: the kind of tokenizer that `bases` writes, and a function that is called in a folder with
`base`, `adapter` and `imatrix.gguf`, all whole. Extra arguments of `edgeft export` stand in `ASKED`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.exporters.gguf import vocabs
from tests.models_made import make_adapter, make_llama
from tests.weights.test_golden import LFS, MODEL, Q, changed, configured, outside, put

Table = dict[str, Any]
Spoil = Callable[[], Any]
TOKENIZER, CONFIG = Path("base/tokenizer.json"), "base/config.json"
ADAPTER, IMATRIX = Path("adapter/adapter_model.safetensors"), Path("imatrix.gguf")
NORM = "model.norm.weight"
WHITE_SPACE: Table = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, vocabs.metaspace("always")]}
A = f"base_model.model.{Q.removesuffix('.weight')}.lora_A.weight"


def bases(folder: Path) -> None:
    """A folder for each kind of tokenizer, with an adapter and an importance matrix of the first in each."""
    import numpy as np

    from edgeft.exporters.gguf.imatrix import Entry, Imatrix, write_imatrix

    first = folder / "bytes"
    sizes: Table = {"hidden": 256, "intermediate": 256, "layers": 1, "tied": False}
    make_llama(first / "base", **sizes)
    make_llama(folder / "sharded" / "base", shard_size="500KB", **sizes)
    make_adapter(first / "adapter", first / "base", targets=("q_proj", "down_proj"))
    settings = first / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "somebody/base"}))
    entries = {"blk.0.attn_q.weight": Entry(np.ones((1, 256), np.float32), np.ones(1, np.float32))}
    write_imatrix(first / "imatrix.gguf", Imatrix(entries, ("rows",), 1, 512))
    others = {
        "sentencepiece": vocabs.sentencepiece(pre=vocabs.metaspace("never")),
        "split sentencepiece": vocabs.sentencepiece(pre=vocabs.metaspace("always", split=True)),
        "prepending": vocabs.sentencepiece(normalizer=vocabs.PREPEND),
        "digits": vocabs.sentencepiece(normalizer=vocabs.REPLACE, pre=vocabs.DIGITS),
        "unigram": vocabs.unigram(pre=vocabs.metaspace("always")),
        "wordpiece": vocabs.wordpiece(),
    }
    roles = {"wordpiece": {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]"}}
    for kind, tokenizer in others.items():
        shutil.copytree(first, folder / kind)
        count = vocabs.write_tokenizer(folder / kind / "base", tokenizer, **roles.get(kind, {}))
        path = folder / kind / "base" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": count}))
    for part in ("adapter", "imatrix.gguf"):
        copy = shutil.copytree if part == "adapter" else shutil.copy
        copy(first / part, folder / "sharded" / part)


# --- tokenizers -----------------------------------------------------------------------------------------------------


def tokenizer(change: Callable[[Table], Any]) -> Spoil:
    """Rewrite tokenizer.json."""

    def spoil() -> None:
        table = json.loads(TOKENIZER.read_text())
        change(table)
        TOKENIZER.write_text(json.dumps(table))

    return spoil


def model(**changes: Any) -> Spoil:
    return tokenizer(lambda table: table["model"].update(changes))


def first_added(**changes: Any) -> Spoil:
    return tokenizer(lambda table: table["added_tokens"][0].update(changes))


def without_bytes(table: Table) -> None:
    """Four bytes lose their tokens, and the merges that hold them; an unknown token stands for them."""
    lost = set("ĀāĂă") | {"é"}
    inner = table["model"]
    inner["unk_token"] = "a"
    inner["vocab"] = {text: number for text, number in inner["vocab"].items() if not lost & set(text)}
    inner["merges"] = [pair for pair in inner["merges"] if not lost & set("".join(pair))]


def unmade(table: Table) -> None:
    """A token that only a tokenizer that does not skip merges can make otherwise. (Which words are trained is not the
    same in every process; this one is.)"""
    table["model"]["ignore_merges"] = True
    word_with(table, "zz")


def processor(*pieces: str | None) -> Spoil:
    """A post-processor that puts these around a text (None)."""
    single = [
        {"Sequence": {"id": "A", "type_id": 0}} if piece is None else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece in pieces
    ]
    found = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    return tokenizer(lambda table: table.update(post_processor=found))


def no_end() -> None:
    configured("base/tokenizer_config.json", eos_token=None)
    configured(CONFIG, eos_token_id=None)
    configured("base/generation_config.json", eos_token_id=None)


def word_with(table: Table, text: str) -> None:
    """One more token, in the place of an unimportant one."""
    vocab = table["model"]["vocab"]
    if isinstance(vocab, list):
        vocab[-1][0] = text
    else:
        vocab[text] = vocab.pop(list(vocab)[-1])


def space_inside(table: Table) -> None:
    """Unigram that splits at white space (after a charsmap), with a token across a space."""
    table["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": ""}
    table["pre_tokenizer"] = WHITE_SPACE
    word_with(table, "a▁b")


def in_pieces(name: str, part: Table) -> Spoil:
    return tokenizer(lambda table: table.update({name: part}))


LOWER: Table = {"type": "Lowercase"}
VOCABULARIES: dict[str, tuple[str, Spoil]] = {
    "tokenizer-missing": ("bytes", TOKENIZER.unlink),
    "tokenizer-not-json": ("bytes", lambda: TOKENIZER.write_text("{")),
    "tokenizer-not-a-tokenizer": ("bytes", lambda: TOKENIZER.write_text('{"model": {"type": "BPE"}}')),
    "tokenizer-of-words": ("bytes", model(type="WordLevel")),
    "tokenizer-larger-than-the-model": ("bytes", lambda: configured(CONFIG, vocab_size=100)),
    "tokenizer-same-text-twice": ("bytes", tokenizer(lambda t: t["added_tokens"][0].update(content="a"))),
    "tokenizer-whole-words": ("bytes", first_added(single_word=True)),
    "tokenizer-no-end": ("bytes", no_end),
    "tokenizer-many-ends": (
        "bytes",
        lambda: Path("adapter/training.json").write_text('{"stop_ids": [1, 2, 3, 4], "base": {"ref": "x"}}'),
    ),
    "bytes-splits": ("bytes", in_pieces("pre_tokenizer", {"type": "Whitespace"})),
    "bytes-normalizer": ("bytes", in_pieces("normalizer", LOWER)),
    "bytes-suffix": ("bytes", model(end_of_word_suffix="</w>")),
    "bytes-dropout": ("bytes", model(dropout=0.1)),
    "bytes-lacking": ("bytes", tokenizer(without_bytes)),
    "bytes-unmade-token": ("bytes", tokenizer(unmade)),
    "ends-two-texts": ("bytes", processor(None, "<|im_end|>", None)),
    "ends-several": ("bytes", processor(None, "<|im_end|>", "<|im_end|>")),
    "ends-other-token": ("bytes", processor(None, "<|im_start|>")),
    "pieces-no-bytes": ("sentencepiece", tokenizer(lambda t: t["model"]["vocab"].pop("<0x0A>"))),
    "pieces-no-fallback": ("sentencepiece", model(byte_fallback=False)),
    "pieces-plain-spaces": ("sentencepiece", in_pieces("pre_tokenizer", None)),
    "pieces-normalizer": ("sentencepiece", in_pieces("normalizer", LOWER)),
    "pieces-splits": ("sentencepiece", in_pieces("pre_tokenizer", {"type": "BertPreTokenizer"})),
    "pieces-only-llama-cpp-merges": ("sentencepiece", tokenizer(lambda t: word_with(t, "zz"))),
    "pieces-space-inside": ("split sentencepiece", tokenizer(lambda t: word_with(t, "a▁b"))),
    "pieces-normalized-token": ("prepending", tokenizer(lambda t: t["added_tokens"][-1].update(normalized=True))),
    "pieces-digits": ("digits", tokenizer(lambda t: word_with(t, "12"))),
    "unigram-bytes": ("unigram", model(byte_fallback=True)),
    "unigram-no-unknown": ("unigram", model(unk_id=None)),
    "unigram-white-space": (
        "unigram",
        in_pieces("pre_tokenizer", WHITE_SPACE),
    ),
    "unigram-space-inside": ("unigram", tokenizer(space_inside)),
    "unigram-normalizer": ("unigram", in_pieces("normalizer", LOWER)),
    "unigram-splits": ("unigram", in_pieces("pre_tokenizer", {"type": "Punctuation"})),
    "unigram-no-metaspace": ("unigram", in_pieces("pre_tokenizer", None)),
    "wordpiece-prefix": ("wordpiece", model(continuing_subword_prefix="@@")),
    "wordpiece-normalizer": ("wordpiece", in_pieces("normalizer", LOWER)),
    "wordpiece-splits": ("wordpiece", in_pieces("pre_tokenizer", {"type": "Whitespace"})),
}


# --- files ----------------------------------------------------------------------------------------------------------


def other_base() -> None:
    training = {"base": {"ref": "builtin:sprout", "digest": "0" * 64}, "quantization": None}
    Path("adapter/training.json").write_text(json.dumps(training))


def infinite_adapter() -> None:
    changed(ADAPTER, put(A, float("inf")))


def shaped(name: str, *shape: int) -> Callable[[Table], None]:
    import torch

    return lambda tensors: tensors.update({name: torch.zeros(shape, dtype=torch.bfloat16)})


FILES: dict[str, tuple[str, Spoil]] = {
    "family-unknown": ("bytes", lambda: configured(CONFIG, architectures=["BertForMaskedLM"])),
    "family-none": ("bytes", lambda: configured(CONFIG, architectures=None, model_type=None)),
    "config-not-json": ("bytes", lambda: Path(CONFIG).write_text("{")),
    "base-header-absurd": ("bytes", lambda: MODEL.write_bytes(b"\xff" * 8 + b"{}" * 20)),
    "base-truncated": ("bytes", lambda: MODEL.write_bytes(MODEL.read_bytes()[:-100])),
    "base-nan": ("bytes", lambda: changed(MODEL, put(NORM, float("nan")))),
    "base-inf-under-the-adapter": ("bytes", lambda: changed(MODEL, put(Q, float("inf")))),
    "base-other-shape": ("bytes", lambda: changed(MODEL, shaped(Q.replace("q_proj", "k_proj"), 128, 320))),
    "base-unknown-tensor": ("bytes", lambda: changed(MODEL, shaped("model.layers.0.surprise.weight", 4))),
    "base-lfs-pointer": ("bytes", lambda: MODEL.write_bytes(LFS)),
    "base-link-out": ("bytes", lambda: outside(MODEL)),
    "base-shard-missing": ("sharded", lambda: sorted(Path("base").glob("*.safetensors"))[1].unlink()),
    "adapter-nan": ("bytes", lambda: changed(ADAPTER, put(A, float("nan")))),
    "adapter-inf": ("bytes", infinite_adapter),
    "adapter-of-another-base": ("bytes", other_base),
    "adapter-of-another-shape": ("bytes", lambda: changed(ADAPTER, shaped(A, 8, 320))),
    "adapter-missing": ("bytes", lambda: shutil.rmtree("adapter")),
    "imatrix-needed": ("bytes", lambda: None),
    "imatrix-lacks-a-weight": ("bytes", lambda: None),
    "imatrix-missing": ("bytes", IMATRIX.unlink),
    "imatrix-truncated": ("bytes", lambda: IMATRIX.write_bytes(IMATRIX.read_bytes()[:100])),
    "imatrix-something-else": ("bytes", lambda: IMATRIX.write_bytes(b"PK\x03\x04" + bytes(60))),
    "imatrix-of-a-plain-file": ("bytes", lambda: None),
    "pattern-broken": ("bytes", lambda: None),
    "pattern-matches-nothing": ("bytes", lambda: None),
    "pattern-without-a-type": ("bytes", lambda: None),
    "pattern-unknown-type": ("bytes", lambda: None),
    "type-unknown": ("bytes", lambda: None),
    "shards-of-no-size": ("bytes", lambda: None),
}
_GIVEN = ["--imatrix", "imatrix.gguf"]
ASKED: dict[str, list[str]] = {
    "imatrix-needed": ["--type", "gguf-iq2_xs"],
    "imatrix-lacks-a-weight": ["--type", "gguf-iq2_xs", *_GIVEN],
    "imatrix-missing": ["--type", "gguf-q4_k_m", *_GIVEN],
    "imatrix-truncated": ["--type", "gguf-q4_k_m", *_GIVEN],
    "imatrix-something-else": ["--type", "gguf-q4_k_m", *_GIVEN],
    "imatrix-of-a-plain-file": ["--type", "gguf-f16", *_GIVEN],
    "pattern-broken": ["--type", "gguf-q8_0", "--tensor-type", "ffn_(down=q6_k"],
    "pattern-matches-nothing": ["--type", "gguf-q8_0", "--tensor-type", "experts=q6_k"],
    "pattern-without-a-type": ["--type", "gguf-q8_0", "--tensor-type", "ffn_down"],
    "pattern-unknown-type": ["--type", "gguf-q8_0", "--tensor-type", "ffn_down=q6_x"],
    "type-unknown": ["--type", "gguf-q4_k_x"],
    "shards-of-no-size": ["--type", "gguf-q8_0", "--max-shard-size", "lots"],
}
