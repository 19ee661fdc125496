"""llama.cpp's token ids for what we write equal the tokenizers library's, for every form of tokenizer that it can be.

What cannot be equal stands here by name with its reason, and the vocabulary says it (`Vocabulary.differences`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    as_taught,
    pretokenizer,
    read_vocabulary,
)
from edgeft.exporters.gguf.vocab.pretokenizer import canonical
from tests.exporters.gguf.vocabs import (
    BYTES,
    CORPUS,
    DIGITS,
    GEMMA_SPLIT,
    PLAIN_BYTES,
    PREPEND,
    REPLACE,
    Opened,
    awkward,
    byte_level,
    config,
    differing,
    metaspace,
    sentencepiece,
    split,
    unigram,
    wordpiece,
    write_gguf,
    write_tokenizer,
)

STEPS = {
    "digits": DIGITS,
    "digit runs": {**DIGITS, "individual_digits": False},
    "bytes": BYTES,
    "punctuation": {"type": "Punctuation", "behavior": "Contiguous"},
}
MARKS = {"mixed scripts", "scripts without spaces", "decomposed accents"}


def steps_of(key: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row of the table of pre-tokenizers as tokenizer.json writes it."""
    steps = [STEPS.get(step) or split(step) for step in key]
    return steps if "bytes" in key else [*steps, PLAIN_BYTES]


def opened(folder: Path, tokenizer: Any, **told: Any) -> tuple[Vocabulary, Opened]:
    size = write_tokenizer(folder, tokenizer, **told)
    vocabulary = read_vocabulary(folder, config(vocab_size=size + 3))
    return vocabulary, Opened(write_gguf(folder / "vocab.gguf", vocabulary))


# ---- byte-level: every row of the table, with and without ignore_merges

ROWS = pretokenizer._KNOWN


@pytest.mark.parametrize("ignore_merges", [False, True])
@pytest.mark.parametrize("key", ROWS, ids=[pre.plain or pre.skipping for pre in ROWS.values()])
def test_every_known_pre_tokenizer(key: tuple[str, ...], ignore_merges: bool, tmp_path: Path) -> None:
    tokenizer = byte_level(*steps_of(key), ignore_merges=ignore_merges)
    vocabulary, llama = opened(tmp_path, tokenizer)
    row = ROWS[key]
    assert vocabulary.pre in (row.plain, row.skipping, row.with_marks)
    if vocabulary.pre == "kimi-k2":  # the only one of those that lose marks without a name that keeps them
        assert "combining marks" in vocabulary.differences[0]
        assert differing(llama, tokenizer, awkward()) == MARKS
    else:
        assert differing(llama, tokenizer, awkward()) == set()


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ((pretokenizer.LLAMA3,), ("smaug-bpe", "dbrx", "chatglm-bpe", "llama-bpe", "glm4", "falcon3", "lfm2")),
        ((pretokenizer.QWEN2,), ("qwen2", "stablelm2", "hunyuan", "bailingmoe", "megrez", "grok-2", "solar-open")),
        (("digits", "bytes"), ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")),
        (("bytes",), ("gpt-2", "mpt", "olmo", "phi-2", "exaone4", "jais", "modern-bert")),
        (
            (r"\p{N}{1,3}", pretokenizer.DEEPSEEK_CJK, pretokenizer.DEEPSEEK_WORDS),
            ("deepseek-v3", "hunyuan-dense", "joyai-llm"),
        ),
        ((pretokenizer.BLOOM,), ("bloom", "poro-chat", "gpt3-finnish")),
    ],
)
def test_names_that_mean_the_same(key: tuple[str, ...], names: tuple[str, ...], tmp_path: Path) -> None:
    """One of several names is written; under each of the others llama.cpp gives the same ids."""
    from dataclasses import replace

    tokenizer = byte_level(*steps_of(key))
    vocabulary, _ = opened(tmp_path, tokenizer)
    assert vocabulary.pre == names[0]
    for name in names[1:]:
        llama = Opened(write_gguf(tmp_path / f"{name}.gguf", replace(vocabulary, pre=name)))
        assert differing(llama, tokenizer, awkward()) == set(), name


@pytest.mark.parametrize(("key", "name"), [((pretokenizer.O200K,), "gpt-4o"), ((pretokenizer.TEKKEN,), "tekken")])
def test_marks_decide_between_two_names(key: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """Where no token holds a letter with a mark the older name is right, and more programs open it."""
    from dataclasses import replace

    with_marks = byte_level(*steps_of(key))
    vocabulary, llama = opened(tmp_path / "marks", with_marks)
    assert vocabulary.pre == "granite-embed-multi-97m"
    assert differing(llama, with_marks, awkward()) == set()
    older = Opened(write_gguf(tmp_path / "older.gguf", replace(vocabulary, pre=name)))
    assert differing(older, with_marks, awkward()) == MARKS

    table = json.loads(with_marks.to_str())
    kept = [merge for merge in table["model"]["merges"] if "".join(merge).isascii()]
    made = {"".join(merge) for merge in kept} | set(pretokenizer_alphabet())
    texts = [text for text in table["model"]["vocab"] if text in made]
    table["model"] |= {"merges": kept, "vocab": {text: number for number, text in enumerate(texts)}}
    for number, token in enumerate(table["added_tokens"]):
        token["id"] = len(texts) + number
    vocabulary, llama = opened(tmp_path / "plain", table)
    assert (vocabulary.pre, vocabulary.differences) == (name, ())
    assert differing(llama, Tokenizer.from_str(json.dumps(table)), awkward()) == set()


def pretokenizer_alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return list(pre_tokenizers.ByteLevel.alphabet())


def test_the_same_pattern_in_other_spellings() -> None:
    tiktoken = (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    )
    assert canonical(tiktoken) == pretokenizer.LLAMA3
    assert canonical(tiktoken.replace(r"\p{N}{1,3}", r"\p{N}{1}").replace(r"\r\n", "\r\n")) == pretokenizer.QWEN2
    found = pretokenizer.recognise(
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(tiktoken, "Removed", invert=True), PLAIN_BYTES]}}
    )
    assert found.name == "smaug-bpe"


def test_spellings_split_alike(tmp_path: Path) -> None:
    """The rewriting of `canonical` and of `Removed` with `invert` changes no ids."""
    tiktoken = (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    )
    tokenizer = byte_level(split(tiktoken, "Removed", invert=True), PLAIN_BYTES)
    vocabulary, llama = opened(tmp_path, tokenizer)
    assert vocabulary.pre == "smaug-bpe"
    assert differing(llama, tokenizer, awkward()) == set()


def test_words_that_skip_the_merges(tmp_path: Path) -> None:
    """Where tokenizer.json and llama.cpp differ in it, a token that its merges do not make decides."""
    tokenizer = json.loads(byte_level(split(pretokenizer.QWEN2), PLAIN_BYTES, ignore_merges=True).to_str())
    size = write_tokenizer(tmp_path, tokenizer)
    assert read_vocabulary(tmp_path, config(vocab_size=size)).pre == "qwen2"
    made_whole = tokenizer["model"]["merges"][-1]
    tokenizer["model"]["merges"].pop()
    write_tokenizer(tmp_path, tokenizer)
    with pytest.raises(ModelError, match="ignore_merges") as caught:
        read_vocabulary(tmp_path, config(vocab_size=size))
    assert repr("".join(made_whole)) in str(caught.value)


# ---- SentencePiece-like, Unigram, WordPiece

PIECES: dict[str, Callable[[], Any]] = {
    "Llama 2: a space before each text": lambda: sentencepiece(normalizer=PREPEND),
    "Gemma": lambda: sentencepiece(normalizer=REPLACE, pre=GEMMA_SPLIT),
    "spaces replaced": lambda: sentencepiece(normalizer=REPLACE),
    "Metaspace never": lambda: sentencepiece(pre=metaspace("never")),
    "Metaspace never, split": lambda: sentencepiece(pre=metaspace("never", split=True)),
}


@pytest.mark.parametrize("name", PIECES)
def test_sentencepiece_without_its_model_file(name: str, tmp_path: Path) -> None:
    tokenizer = PIECES[name]()
    vocabulary, llama = opened(tmp_path, tokenizer)
    assert (vocabulary.model, vocabulary.pre, vocabulary.differences) == ("llama", "default", ())
    assert differing(llama, tokenizer, awkward()) == set()


def test_the_converters_scores_would_not_do(tmp_path: Path) -> None:
    """llama.cpp's converter gives every token -1000 without tokenizer.model: the leftmost neighbours merge."""
    from dataclasses import replace

    tokenizer = PIECES["Llama 2: a space before each text"]()
    vocabulary, _ = opened(tmp_path, tokenizer)
    flat = replace(vocabulary, scores=[-1000.0] * len(vocabulary.tokens))
    llama = Opened(write_gguf(tmp_path / "flat.gguf", flat))
    assert differing(llama, tokenizer, awkward())  # how many depends on the vocabulary, which each process trains anew


# Texts that begin with a space, or a space behind a special token, and nothing else.
SPACE_FIRST = {"leading space", "only spaces", "special tokens of ChatML", "special tokens of Llama"}


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_space_that_is_put_before_text_once(scheme: str, tmp_path: Path) -> None:
    """Metaspace puts one only if there is none, "first" only at the start: llama.cpp always or never, behind each
    special token too. Without a chat template texts are taken to begin as they are."""
    tokenizer = sentencepiece(pre=metaspace(scheme))
    vocabulary, llama = opened(tmp_path, tokenizer)
    assert vocabulary.settings == (("tokenizer.ggml.add_space_prefix", True, "bool"),)
    assert len(vocabulary.differences) == 1
    assert differing(llama, tokenizer, awkward()) == SPACE_FIRST


def test_conversations_begin_with_a_special_token(tmp_path: Path) -> None:
    """With a chat template "first" is right for conversations: all that does not begin with text."""
    tokenizer = sentencepiece(pre=metaspace("first"))
    vocabulary, llama = opened(tmp_path, tokenizer, chat_template="{{ messages }}")
    assert vocabulary.settings == (("tokenizer.ggml.add_space_prefix", False, "bool"),)
    wrapped = {name: f"<s>{text}<|im_end|> {text}" for name, text in awkward().items()}
    assert differing(llama, tokenizer, wrapped) == set()
    assert "begin with a special token" in vocabulary.differences[0]
    plain, _ = opened(tmp_path / "plain", tokenizer)
    assert as_taught(plain, "{{ messages }}", []).settings == vocabulary.settings
    assert as_taught(plain, "{{ messages }}", []).differences == vocabulary.differences


UNIGRAMS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "a space before text": (
        lambda: unigram(pre=metaspace("always", split=True)),
        {"leading space", "special tokens of Llama"},
    ),
    "no space before text": (lambda: unigram(pre=metaspace("never", split=True)), set()),
}


@pytest.mark.parametrize("name", UNIGRAMS)
def test_unigram(name: str, tmp_path: Path) -> None:
    build, known = UNIGRAMS[name]
    tokenizer = build()
    vocabulary, llama = opened(tmp_path, tokenizer, bos_token=None)
    assert vocabulary.model == "t5"
    assert differing(llama, tokenizer, awkward()) == known
    assert bool(vocabulary.differences) == bool(known)


ACCENTS = {"mixed scripts", "emoji with joiners"}  # Hangul, signs that are not non-spacing; U+20E3
WORDPIECES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "cased": ({"lowercase": False}, set()),
    "uncased": ({"lowercase": True}, ACCENTS),
    "uncased with accents": ({"lowercase": True, "strip_accents": False}, set()),
    "cased without accents": ({"lowercase": False, "strip_accents": True}, ACCENTS),
}
BERT = {
    "bos_token": None, "eos_token": None, "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "pad_token": "[PAD]", "mask_token": "[MASK]",
}  # fmt: skip


@pytest.mark.parametrize("name", WORDPIECES)
def test_wordpiece(name: str, tmp_path: Path) -> None:
    options, accents = WORDPIECES[name]
    tokenizer = wordpiece(**options)
    vocabulary, llama = opened(tmp_path, tokenizer, **BERT)
    assert vocabulary.model == "bert"
    # A word of 120 letters; U+0085
    assert differing(llama, tokenizer, awkward()) == {"long repetition", "other spaces"} | accents
    assert len(vocabulary.differences) == (3 if accents else 2)
    assert llama.ids("turn it off", whole=True) == tokenizer.encode("turn it off").ids


# ---- any text of characters that the corpus and the awkward strings hold

ALPHABET = sorted(set("".join([*CORPUS, *awkward().values()])) - {"\u0085"})
EXACT: dict[str, Callable[[], Any]] = {
    "llama-bpe": lambda: byte_level(*steps_of((pretokenizer.LLAMA3,)), ignore_merges=True),
    "qwen2": lambda: byte_level(*steps_of((pretokenizer.QWEN2,))),
    "gpt-2": lambda: byte_level(BYTES),
    "smollm": lambda: byte_level(DIGITS, BYTES),
    "gpt-4o": lambda: byte_level(*steps_of((pretokenizer.O200K,))),
    "deepseek-v3": lambda: byte_level(
        *steps_of((r"\p{N}{1,3}", pretokenizer.DEEPSEEK_CJK, pretokenizer.DEEPSEEK_WORDS))
    ),
    **PIECES,
    "unigram": lambda: unigram(pre=metaspace("never", split=True)),
}


@pytest.fixture(scope="module", params=EXACT)
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Opened]]:
    tokenizer = EXACT[request.param]()
    _, llama = opened(tmp_path_factory.mktemp("vocab"), tokenizer, bos_token=None)
    yield tokenizer, llama
    llama.close()


@given(text=st.text(ALPHABET, min_size=1, max_size=40))
@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text(exact: tuple[Any, Opened], text: str) -> None:
    tokenizer, llama = exact
    assert llama.ids(text) == list(tokenizer.encode(text, add_special_tokens=False).ids)


# ---- texts that llama.cpp takes for special tokens


def with_ordinary(text: str, pieces: list[str], tokenizer: Any) -> dict[str, Any]:
    """The tokenizer's table with one more ordinary token that merges make of `pieces`, as Qwen's has it."""
    table = json.loads(tokenizer.to_str())
    number = max(*table["model"]["vocab"].values(), *(token["id"] for token in table["added_tokens"])) + 1
    left = pieces[0]
    for right in pieces[1:]:
        table["model"]["merges"].append([left, right])
        left += right
        table["model"]["vocab"].setdefault(left, number + len(left))
    table["model"]["vocab"][text] = number
    table["added_tokens"] = [token for token in table["added_tokens"] if token["content"] != text]
    return table


def test_an_ordinary_token_that_llama_cpp_would_take_for_an_end(tmp_path: Path) -> None:
    """Qwen's vocabulary holds "</s>", to which no text leads; llama.cpp would find it and stop there."""
    from dataclasses import replace

    table = with_ordinary("</s>", list("</s>"), byte_level(*steps_of((pretokenizer.QWEN2,))))
    tokenizer = Tokenizer.from_str(json.dumps(table))
    number = table["model"]["vocab"]["</s>"]
    size = write_tokenizer(tmp_path, table, eos_token="<|im_end|>")
    vocabulary = read_vocabulary(tmp_path, config(vocab_size=size))
    assert (vocabulary.tokens[number], vocabulary.types[number]) == (f"[PAD{number}]", UNUSED)
    texts = {"end": "say [/INST]</s> now"}
    assert differing(Opened(write_gguf(tmp_path / "ours.gguf", vocabulary)), tokenizer, texts) == set()
    tokens, types = list(vocabulary.tokens), list(vocabulary.types)
    tokens[number], types[number] = "</s>", NORMAL
    plain = Opened(write_gguf(tmp_path / "plain.gguf", replace(vocabulary, tokens=tokens, types=types)))
    assert number in plain.ids(texts["end"])


def test_a_token_with_a_role_stays(tmp_path: Path) -> None:
    """A token that tokenizer_config.json calls the end is special, though tokenizer.json does not list it as added."""
    table = with_ordinary("</s>", list("</s>"), byte_level(*steps_of((pretokenizer.QWEN2,))))
    size = write_tokenizer(tmp_path, table, eos_token="</s>")
    vocabulary = read_vocabulary(tmp_path, config(vocab_size=size))
    number = vocabulary.special["eos"]
    assert (vocabulary.tokens[number], vocabulary.types[number]) == ("</s>", CONTROL)


# ---- types and what comes back


def test_types_of_sentencepiece_tokens_and_their_texts(tmp_path: Path) -> None:
    tokenizer = PIECES["Gemma"]()
    tokenizer.add_tokens([AddedToken("▁▁▁▁", normalized=False)])  # as Gemma has it: in the vocabulary and added
    vocabulary, llama = opened(tmp_path, tokenizer)
    types = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert (types["<unk>"], types["<s>"], types["<0x0A>"], types["<tool>"]) == (UNKNOWN, CONTROL, BYTE, USER_DEFINED)
    assert types["▁▁▁▁"] == types["▁"] == NORMAL  # spaces in the answer, not ▁
    assert vocabulary.types[-3:] == [UNUSED] * 3
    text = "Turn  it   on,\n    now! ü 你 \x07"
    assert llama.text(llama.ids(text)) == text


def test_scores_are_those_that_sentencepiece_gives(tmp_path: Path) -> None:
    """0, -1, -2, … in the order of the merges, then the single characters."""
    vocabulary, _ = opened(tmp_path, PIECES["spaces replaced"]())
    assert vocabulary.scores is not None
    kinds = zip(vocabulary.tokens, vocabulary.types, vocabulary.scores, strict=True)
    normal = {text: score for text, kind, score in kinds if kind == NORMAL}
    merges = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]
    assert [normal["".join(merge)] for merge in merges] == [-float(rank) for rank in range(len(merges))]
    assert sorted(normal.values(), reverse=True) == [-float(order) for order in range(len(normal))]
