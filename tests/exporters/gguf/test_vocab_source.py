"""Real vocabularies: those that llama.cpp's source package carries, with the ids that their own tokenizers give.

Each is made a tokenizer.json again (tokens, merges and the splits that its name stands for), read and written by us,
and opened in llama.cpp: its ids must be those of the `.out` file and, on the awkward strings, of the tokenizers
library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer

from edgeft.exporters.gguf.vocab import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, pretokenizer, read_vocabulary
from edgeft.exporters.gguf.vocab.pretokenizer import LLAMA3, QWEN2, QWEN35
from tests.exporters.gguf.converter import source_folder
from tests.exporters.gguf.test_vocab_ids import BERT, steps_of
from tests.exporters.gguf.vocabs import (
    GEMMA_SPLIT,
    PREPEND,
    REPLACE,
    Opened,
    awkward,
    charsmap_of,
    config,
    differing,
    metaspace,
    write_gguf,
    write_tokenizer,
)

pytestmark = pytest.mark.slow

NFC = {"type": "NFC"}
_NAMED = {pre.plain: key for key, pre in pretokenizer._KNOWN.items()}
# name of the file -> how its model's tokenizer.json splits, whether it skips merges, its normaliser
BYTE_LEVEL: dict[str, tuple[tuple[str, ...], bool, Any]] = {
    "llama-bpe": ((LLAMA3,), True, None),
    "qwen2": ((QWEN2,), False, NFC),
    "qwen35": ((QWEN35,), False, NFC),
    "gpt-2": (("bytes",), False, None),
    "mpt": (("bytes",), False, NFC),
    "starcoder": (("digits", "bytes"), False, None),
    "refact": (("digits", "bytes"), False, None),
    "command-r": (("digits", "bytes"), False, NFC),
    "deepseek-llm": (_NAMED["deepseek-llm"], False, None),
    "deepseek-coder": (_NAMED["deepseek-coder"], False, None),
    "falcon": (_NAMED["falcon"], False, None),
}
NORMAL_FORMS = {"decomposed accents", "compatibility forms"}  # NFC, which llama.cpp does not do
MARKER = "__ggml_vocab_test__"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_folder(tmp_path_factory.mktemp("llama.cpp")) / "models"


class Real:
    """The tokens of one file, and its texts with their ids."""

    def __init__(self, models: Path, name: str) -> None:
        path = models / f"ggml-vocab-{name}.gguf"
        reader = gguf.GGUFReader(path)
        get = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()  # noqa: E731
        self.tokens: list[str] = get("tokens")
        self.types: list[int] = get("token_type")
        self.end = self.tokens[get("eos_token_id")] if "tokenizer.ggml.eos_token_id" in reader.fields else None
        self.merges: list[str] = get("merges") if "tokenizer.ggml.merges" in reader.fields else []
        self.scores: list[float] = get("scores") if "tokenizer.ggml.scores" in reader.fields else []
        texts = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8").split(f"\n{MARKER}\n")
        lines = path.with_name(f"{path.name}.out").read_text().split("\n")
        self.expected = {
            text: [int(number) for number in line.split()] for text, line in zip(texts, lines, strict=False)
        }

    def added(self) -> list[dict[str, Any]]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": number, "content": text, "special": kind != USER_DEFINED, **flags}
            for number, (text, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in (CONTROL, UNKNOWN, USER_DEFINED)
        ]

    def vocab(self) -> dict[str, int]:
        return {
            text: number
            for number, (text, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind != UNUSED
        }

    def bpe(self, merges: list[Any], **steps: Any) -> dict[str, Any]:
        model = {"type": "BPE", "vocab": self.vocab(), "merges": merges}
        for key in ("ignore_merges", "byte_fallback", "fuse_unk", "unk_token"):
            if key in steps:
                model[key] = steps.pop(key)
        return {"version": "1.0", "added_tokens": self.added(), "post_processor": None, "model": model, **steps}


def check(folder: Path, real: Real, table: dict[str, Any], known: set[str] = frozenset(), **told: Any) -> Any:  # type: ignore[assignment]
    """Ids as in the file, and as the tokenizers library's; returns the vocabulary."""
    write_tokenizer(folder, table, **told)
    vocabulary = read_vocabulary(folder, config(vocab_size=len(real.tokens)))
    llama = Opened(write_gguf(folder / "vocab.gguf", vocabulary))
    wrong = [text for text, ids in real.expected.items() if llama.ids(text) != ids]
    assert not wrong
    assert len(real.expected) > 40
    tokenizer = Tokenizer.from_str(json.dumps(table))
    found = differing(llama, tokenizer, awkward())
    assert found <= known, found - known
    return vocabulary


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level(name: str, models: Path, tmp_path: Path) -> None:
    real = Real(models, name)
    key, ignore_merges, normalizer = BYTE_LEVEL[name]
    pre = {"type": "Sequence", "pretokenizers": steps_of(key)}
    table = real.bpe(real.merges, ignore_merges=ignore_merges, pre_tokenizer=pre, normalizer=normalizer, decoder=None)
    vocabulary = check(
        tmp_path, real, table, NORMAL_FORMS if normalizer else set(), bos_token=None, unk_token=None, eos_token=real.end
    )
    ours, theirs = (
        {text for text, kind in zip(side.tokens, side.types, strict=True) if kind == NORMAL}
        for side in (vocabulary, real)
    )
    assert theirs - ours == ({"</s>"} if name.startswith("qwen") else set())  # llama.cpp would take it for an end
    assert ours <= theirs
    assert vocabulary.merges == real.merges


@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_sentencepiece(name: str, models: Path, tmp_path: Path) -> None:
    """Merges as transformers makes them of SentencePiece's scores; from them alone we find the scores again."""
    from transformers.tokenization_utils_base import generate_merges

    real = Real(models, name)
    scores = dict(zip(real.tokens, real.scores, strict=True))
    merges = [list(pair) for pair in generate_merges(real.vocab(), scores)]
    table = real.bpe(
        merges,
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
        normalizer=PREPEND,
        pre_tokenizer=None,
        decoder=None,
    )
    vocabulary = check(tmp_path, real, table, eos_token=real.end)
    assert vocabulary.differences == ()
    made = {"".join(pair) for pair in merges}
    pairs = zip(vocabulary.scores, real.scores, real.tokens, strict=True)
    in_order = [theirs for _, theirs, text in sorted(pairs, reverse=True) if text in made]
    assert len(in_order) > 29000
    assert in_order == sorted(in_order, reverse=True)


def test_gemma(models: Path, tmp_path: Path) -> None:
    """A vocabulary of 262,144 tokens and 514,906 merges, which llama.cpp's converter writes as a model of its own."""
    real = Real(models, "gemma-4")
    table = real.bpe(
        real.merges,
        byte_fallback=True, fuse_unk=True, unk_token="<unk>", normalizer=REPLACE, pre_tokenizer=GEMMA_SPLIT,
        decoder=None,
    )  # fmt: skip
    check(tmp_path, real, table, bos_token="<bos>", eos_token="<eos>")


def test_bert(models: Path, tmp_path: Path) -> None:
    real = Real(models, "bert-bge")
    words = [text if kind == CONTROL else text[1:] if text[0] == "▁" else f"##{text}"
             for text, kind in zip(real.tokens, real.types, strict=True)]  # fmt: skip
    real.tokens = words
    table = {
        "version": "1.0",
        "added_tokens": real.added(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": real.vocab(),
        },
    }  # fmt: skip
    known = {"long repetition", "long word", "other spaces", "mixed scripts", "emoji with joiners"}
    check(tmp_path, real, table, known, **BERT)


def test_unigram_with_a_charsmap(models: Path, tmp_path: Path) -> None:
    """XLM-R's vocabulary as its tokenizer.json is; there are no expected ids beside the file."""
    path = models / "ggml-vocab-nomic-bert-moe.gguf"
    reader = gguf.GGUFReader(path)
    tokens, types, scores = (
        reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "scores")
    )
    import base64

    size = tokens.index("<mask>") + 1
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": n, "content": tokens[n], **flags} for n in range(size) if types[n] in (CONTROL, UNKNOWN)]
    charsmap = base64.b64encode(charsmap_of(path)).decode()
    steps = [{"type": "WhitespaceSplit"}, metaspace("always", split=True)]
    table = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "Unigram", "unk_id": 3, "byte_fallback": False,
            "vocab": [[text, score] for text, score in zip(tokens[:size], scores[:size], strict=True)],
        },
    }  # fmt: skip
    write_tokenizer(tmp_path, table)
    vocabulary = read_vocabulary(tmp_path, config(vocab_size=len(tokens)))
    llama = Opened(write_gguf(tmp_path / "vocab.gguf", vocabulary))
    texts = awkward() | dict(enumerate(Real(models, "llama-spm").expected))  # type: ignore[arg-type]
    assert differing(llama, Tokenizer.from_str(json.dumps(table)), texts) <= {
        "other spaces",
        "decomposed accents",
    }  # U+0085, Hangul
    assert [t for t, k in zip(vocabulary.tokens, vocabulary.types, strict=True) if k == NORMAL] == [
        t for t, k in zip(tokens, types, strict=True) if k == NORMAL
    ]
