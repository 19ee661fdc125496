"""Small tokenizers of every form, and llama.cpp's own ids for a `Vocabulary`: the oracle of the vocabulary tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from struct import pack, unpack
from typing import Any

from edgeft.evals.awkward import STRINGS
from edgeft.exporters.gguf.header import Header, write_header
from edgeft.exporters.gguf.vocab import Vocabulary, put_vocabulary
from tests.models_made import TEXTS

SPECIALS = ("<unk>", "<s>", "</s>")
CORPUS = [
    *TEXTS,
    "HelloWorld fooBar XMLHttpRequest iPhone McDonald's I'M DON'T it's we'll they've",
    "def main(argv):\n    for i in range(10):\n        print(i, i * 2)\n\n\nif __name__ == '__main__':\n\tmain()\n",
    "1 12 123 1234 12345 123456 2024-05-17 10:45 3.14159 1,000,000 x86_64 v1.2.3",
    "नमस्ते दुनिया हिन्दी में लिखा है สวัสดีครับ ภาษาไทย مرحبا بالعالم שלום עולם Việt Nam Ελλάδα",
    "你好世界我们去公园 今日は天気がいいですね こんにちは カタカナ 안녕하세요 세계",
    "e\u0301 a\u030a o\u0308 n\u0303 cafe\u0301 … — « » “ ” € £ → ∞ ½ ② 👩‍👩‍👧 🚀🚀 🇨🇭",
    "!!! ??? ... --- === ~~~ /// // /* */ <!-- --> &amp; [] {} () \"quoted\" 'single' $x += y;\r\n\r\nz <= w",
    "a  b   c    d     e        f\t\tg\t\t\th \n \n\n \n\n\n    indented\n        more\n",
]


def config(**settings: Any) -> dict[str, Any]:
    return {"model_type": "llama", **settings}


def write_tokenizer(folder: Path, tokenizer: Any, **settings: Any) -> int:
    """tokenizer.json (a `tokenizers.Tokenizer` or its table) and tokenizer_config.json; returns how many tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    table = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    known = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(known | settings), encoding="utf-8")
    vocab = table["model"]["vocab"]
    ids = [
        *(range(len(vocab)) if isinstance(vocab, list) else vocab.values()),
        *(t["id"] for t in table["added_tokens"]),
    ]
    return max(ids) + 1


def write_gguf(path: Path, vocabulary: Vocabulary, name: str = "test") -> Path:
    """A file with a vocabulary and no tensors, which llama.cpp opens with `vocab_only`."""
    metadata: list[tuple[str, Any, str]] = [("general.name", name, "string")]
    for key, value in (
        ("context_length", 64), ("embedding_length", 8), ("block_count", 1), ("feed_forward_length", 8),
        ("attention.head_count", 1),
    ):  # fmt: skip
        metadata.append((f"llama.{key}", value, "uint32"))
    metadata.append(("llama.attention.layer_norm_rms_epsilon", 1e-5, "float32"))
    put_vocabulary(vocabulary, lambda key, value, kind: metadata.append((key, value, kind)))
    write_header(path, Header("llama", metadata, {}, {}))
    return path


class Opened:
    """llama.cpp with a vocabulary and nothing else."""

    def __init__(self, path: Path) -> None:
        from llama_cpp import Llama

        self._model = Llama(str(path), vocab_only=True, verbose=False)

    def ids(self, text: str, *, whole: bool = False) -> list[int]:
        """Special tokens in the text are found; `whole` also adds what belongs to every text."""
        return list(self._model.tokenize(text.encode(), add_bos=whole, special=True))

    def text(self, ids: Sequence[int]) -> str:
        return self._model.detokenize(list(ids), special=True).decode("utf-8", "replace")

    def close(self) -> None:
        self._model.close()


def awkward() -> dict[str, str]:
    return {string.name: string.text for string in STRINGS}


def differing(opened: Opened, tokenizer: Any, texts: dict[str, str]) -> set[str]:
    """The names of the texts of which llama.cpp and the tokenizers library give other ids."""
    return {
        name
        for name, text in texts.items()
        if opened.ids(text) != list(tokenizer.encode(text, add_special_tokens=False).ids)
    }


# ---- byte-level BPE

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN_BYTES = {**BYTES, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def byte_level(*steps: dict[str, Any], ignore_merges: bool = False, size: int = 600) -> Any:
    """A byte-level BPE trained with these steps; its specials come last, as in most models."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    pre = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)}
    table = json.loads(Tokenizer(models.BPE(ignore_merges=ignore_merges)).to_str())
    tokenizer = Tokenizer.from_str(json.dumps({**table, "pre_tokenizer": pre}))
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (*SPECIALS, "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("    ", normalized=False)])
    return tokenizer


# ---- SentencePiece-like

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]}
GEMMA_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def metaspace(scheme: str, *, split: bool = False) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def sentencepiece(*, normalizer: Any = None, pre: Any = None, size: int = 700) -> Any:
    """A BPE over characters with byte fallback. Trained on words, as SentencePiece does, and on runs of spaces."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=bool(pre and pre.get("split")))
    tokens = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=tokens, show_progress=False, limit_alphabet=120)
    words = [piece for text in CORPUS for piece in text.split("\n")] + ["  ", "   x", "    y", "        z"] * 3
    trained.train_from_iterator(words * 2, trainer)
    table = json.loads(trained.to_str())
    table["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    table["added_tokens"] = [token for token in table["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps({**table, "normalizer": normalizer, "pre_tokenizer": pre}))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def charsmap_of(path: Path) -> bytes:
    """The precompiled charsmap (nmt_nfkc, as SentencePiece makes it) of a GGUF file."""
    import gguf

    return bytes(gguf.GGUFReader(path).fields["tokenizer.ggml.precompiled_charsmap"].contents())


def unigram(*, normalizer: Any = None, pre: Any = None, size: int = 400) -> Any:
    """A Unigram vocabulary in T5's order: the specials first, each text ends with </s>."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=tokens, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator([text.replace("\n", " ").replace("\t", " ") for text in CORPUS], trainer)
    table = json.loads(trained.to_str())
    # GGUF holds scores in 32 bits, as SentencePiece does; the tokenizers library trains in 64.
    table["model"]["vocab"] = [[text, unpack("f", pack("f", score))[0]] for text, score in table["model"]["vocab"]]
    table |= {"normalizer": normalizer, "pre_tokenizer": pre}
    tokenizer = Tokenizer.from_str(json.dumps(table))
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def wordpiece(*, lowercase: bool = True, strip_accents: bool | None = None, size: int = 500) -> Any:
    """BERT's own kind, with [CLS] and [SEP] around each text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer
