"""Added tokens and their flags, special tokens, chat templates; what GGUF cannot say is refused or told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab import Vocabulary, as_taught, name_for, put_vocabulary, read_vocabulary
from edgeft.exporters.gguf.vocab.added import overlap
from tests.exporters.gguf.vocabs import (
    BYTES,
    PREPEND,
    Opened,
    awkward,
    byte_level,
    config,
    differing,
    metaspace,
    sentencepiece,
    unigram,
    wordpiece,
    write_gguf,
    write_tokenizer,
)

Change = Callable[[dict[str, Any]], Any]


def table_of(tokenizer: Any, change: Change | None = None) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(tokenizer.to_str())
    if change:
        change(table)
    return table


def read(folder: Path, table: Any, **told: Any) -> Vocabulary:
    size = write_tokenizer(folder, table, **told)
    return read_vocabulary(folder, config(vocab_size=size))


def written(vocabulary: Vocabulary) -> dict[str, Any]:
    found: dict[str, Any] = {}
    put_vocabulary(vocabulary, lambda key, value, kind: found.__setitem__(key, value))
    return found


# ---- flags of added tokens


def test_tokens_for_whole_words_are_refused(tmp_path: Path) -> None:
    table = table_of(byte_level(BYTES, size=300), lambda t: t["added_tokens"][-1].update(single_word=True))
    with pytest.raises(ModelError, match="whole words only"):
        read(tmp_path, table)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip"])
def test_stripping_is_told(flag: str, tmp_path: Path) -> None:
    table = table_of(byte_level(BYTES, size=300), lambda t: t["added_tokens"][-1].update({flag: True}))
    differences = read(tmp_path, table).differences
    assert len(differences) == 1
    assert flag in differences[0]


def test_the_masks_stripping_is_no_matter(tmp_path: Path) -> None:
    table = table_of(byte_level(BYTES, size=300), lambda t: t["added_tokens"][-1].update(lstrip=True))
    mask = table["added_tokens"][-1]["content"]
    assert read(tmp_path, table, mask_token=mask).differences == ()


def phi3() -> Any:
    """A tokenizer whose special tokens swallow the white space behind them, but for three, as Phi-3's do."""
    tokenizer = sentencepiece(normalizer=PREPEND)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|user|>", "<|end|>"])
    table = table_of(tokenizer)
    for token in table["added_tokens"]:
        token |= {"rstrip": token["content"] not in ("<unk>", "<s>", "<|endoftext|>"), "normalized": False}
    return table


def test_phi3s_stripping_goes_by_the_name_of_the_model(tmp_path: Path) -> None:
    table = phi3()
    vocabulary = read(tmp_path, table)
    assert vocabulary.strips_right
    assert vocabulary.differences == ()
    tokenizer = Tokenizer.from_str(json.dumps(table))
    texts = awkward() | {"chat": "<s><|user|>\nTurn it on.  <|end|>\n <|assistant|>\n\n<tool>  x</s> y"}
    named = Opened(write_gguf(tmp_path / "named.gguf", vocabulary, name=name_for(vocabulary, "my lamp")))
    assert differing(named, tokenizer, texts) == set()
    plain = Opened(write_gguf(tmp_path / "plain.gguf", vocabulary, name="my lamp"))
    assert "chat" in differing(plain, tokenizer, texts)


def test_names_that_llama_cpp_reads_more_into(tmp_path: Path) -> None:
    """A model named after Phi-3 whose special tokens do not strip would get other ids, or not load at all."""
    vocabulary = read(tmp_path, table_of(byte_level(BYTES)))
    assert name_for(vocabulary, "My-Phi-3-lamp PHI3 modern-bert") == "My-phi_3-lamp phi_3 modern_bert"
    assert name_for(vocabulary, "lamp") == "lamp"
    with pytest.raises(ValueError, match="Failed to load"):
        Opened(write_gguf(tmp_path / "bad.gguf", vocabulary, name="my-phi3"))
    Opened(write_gguf(tmp_path / "good.gguf", vocabulary, name=name_for(vocabulary, "my-phi3")))
    strips = read(tmp_path / "strips", phi3())
    assert name_for(strips, "lamp") == "lamp (phi-3)"
    assert name_for(strips, "Phi-3-mini lamp") == "Phi-3-mini lamp"


def test_normalized_added_tokens_of_sentencepiece(tmp_path: Path) -> None:
    """The tokenizers library looks for them after a space was put before the text."""
    table = table_of(sentencepiece(normalizer=PREPEND))
    table["added_tokens"][-1]["normalized"] = True
    with pytest.raises(ModelError, match="normalized"):
        read(tmp_path, table)


@pytest.mark.parametrize(
    ("texts", "pair"),
    [
        (["<a>", "<b>"], None),
        (["\n", "\n\n", "\n\n\n"], None),
        (["  ", "    ", "        "], None),
        (["<a><", "<b>>>"], ("<a><", "<b>>>")),
        (["ab", "bcd"], ("ab", "bcd")),
        (["abcd", "de"], None),
        (["ab", "bcd", "abcd"], None),
    ],
)
def test_overlapping_added_tokens(texts: list[str], pair: tuple[str, str] | None, tmp_path: Path) -> None:
    """The pair that llama.cpp finds otherwise than the tokenizers library; and that it does."""
    assert overlap(texts) == pair
    tokenizer = byte_level(BYTES, size=300)
    tokenizer.add_tokens(texts)
    vocabulary = read(tmp_path, table_of(tokenizer))
    llama = Opened(write_gguf(tmp_path / "vocab.gguf", vocabulary))
    together = {f"{one}+{two}[{cut}:]": one + two[cut:] for one in texts for two in texts for cut in range(len(two))}
    assert bool(differing(llama, tokenizer, together)) == (pair is not None)
    assert bool(vocabulary.differences) == (pair is not None)


# ---- what no GGUF can be


LLAMA2, UNIGRAM, BERT = (
    (lambda: sentencepiece(normalizer=PREPEND)),
    (lambda: unigram(pre=metaspace("always"))),
    wordpiece,
)
SPLIT_BY_WHITE_SPACE = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always")]}
WHITESPACE = {"type": "Whitespace"}
REFUSED: dict[str, tuple[Callable[[], Any], Change | None]] = {
    "byte_fallback is off": (LLAMA2, lambda t: t["model"].update(byte_fallback=False)),
    "1 of the 256 byte tokens": (LLAMA2, lambda t: t["model"]["vocab"].pop("<0x41>")),
    "does not write spaces as ▁, and": (sentencepiece, None),
    "normalises text with 'Lowercase'": (lambda: sentencepiece(normalizer={"type": "Lowercase"}), None),
    "splits text with 'Whitespace'": (lambda: sentencepiece(normalizer=PREPEND, pre=WHITESPACE), None),
    "uses dropout": (LLAMA2, lambda t: t["model"].update(dropout=0.1)),
    "uses end_of_word_suffix": (lambda: byte_level(BYTES), lambda t: t["model"].update(end_of_word_suffix="</w>")),
    "with a space inside": (
        lambda: sentencepiece(pre=metaspace("never", split=True)),
        lambda t: t["model"]["vocab"].update({"a▁b": 900}),
    ),
    "falls back to bytes": (UNIGRAM, lambda t: t["model"].update(byte_fallback=True)),
    "no unknown token": (UNIGRAM, lambda t: t["model"].update(unk_id=None)),
    "does not write spaces as ▁ in": (unigram, None),
    "at all white space": (lambda: unigram(pre=SPLIT_BY_WHITE_SPACE), None),
    "normalises text with 'NFKC'": (lambda: unigram(normalizer={"type": "NFKC"}, pre=metaspace("always")), None),
    "with ##": (BERT, lambda t: t["model"].update(continuing_subword_prefix="@@")),
    "as BERT's own": (BERT, lambda t: t["normalizer"].update(handle_chinese_chars=False)),
    "does not split text as BERT": (BERT, lambda t: t.update(pre_tokenizer=WHITESPACE)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why: str, tmp_path: Path) -> None:
    build, change = REFUSED[why]
    told = {"bos_token": None, "eos_token": None, "cls_token": "[CLS]", "sep_token": "[SEP]"}
    with pytest.raises(ModelError, match=why) as caught:
        read(tmp_path, table_of(build(), change), **told)
    assert "tokenizer.json" in str(caught.value)


def test_bytes_without_a_token(tmp_path: Path) -> None:
    """Falcon and StarCoder lack control characters: both drop them. With an unknown token the tokenizer does not."""
    table = table_of(byte_level(BYTES))
    table["model"]["vocab"].pop("ć")  # byte 7
    number = len(table["model"]["vocab"])
    assert "1 bytes have no token (0x7…)" in read(tmp_path, table).differences[0]
    table["model"]["unk_token"] = "<unk>"
    with pytest.raises(ModelError, match="unknown token there"):
        read(tmp_path, table)
    assert number > 500


def test_a_token_that_only_llama_cpp_would_merge(tmp_path: Path) -> None:
    table = table_of(sentencepiece(normalizer=PREPEND))
    table["model"]["vocab"]["qz"] = len(table["model"]["vocab"]) + 5
    table["model"]["vocab"] |= {c: 900 + n for n, c in enumerate("qz") if c not in table["model"]["vocab"]}
    with pytest.raises(ModelError, match="'qz' is not what the tokenizer's merges make"):
        read(tmp_path, table)


def test_no_end_token(tmp_path: Path) -> None:
    """llama.cpp would take token 11 for it."""
    vocabulary = read(tmp_path, table_of(byte_level(BYTES)), eos_token=None)
    with pytest.raises(ModelError, match="would stop answers at token 11"):
        written(vocabulary)
    assert written(as_taught(vocabulary, None, [3]))["tokenizer.ggml.eos_token_id"] == 3


# ---- roles


def test_all_roles(tmp_path: Path) -> None:
    tokenizer = byte_level(BYTES)
    names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]
    names += ["<|repo_name|>", "<|file_sep|>"]
    tokenizer.add_special_tokens(names)
    ids = {name: tokenizer.token_to_id(name) for name in (*names, "<unk>", "<s>", "</s>")}
    told = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": {"content": "[MASK]"}}
    found = written(read(tmp_path, table_of(tokenizer), **told))
    wanted = {
        "bos": "<s>", "eos": "</s>", "unknown": "<unk>", "padding": "[PAD]", "cls": "[CLS]", "seperator": "[SEP]",
        "mask": "[MASK]", "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>",
        "fim_pad": "<|fim_pad|>", "fim_rep": "<|repo_name|>", "fim_sep": "<|file_sep|>",
    }  # fmt: skip
    assert {role: found[f"tokenizer.ggml.{role}_token_id"] for role in wanted} == {
        role: ids[name] for role, name in wanted.items()
    }


def test_cls_and_sep_stand_in(tmp_path: Path) -> None:
    told = {"bos_token": None, "eos_token": None, "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    found = read(tmp_path, wordpiece(), **told)
    assert (found.special["bos"], found.special["eos"]) == (2, 3)
    assert (found.add_bos, found.add_eos) == (True, True)


def test_token_types_of_bert(tmp_path: Path) -> None:
    size = write_tokenizer(tmp_path, wordpiece(), cls_token="[CLS]", sep_token="[SEP]", bos_token=None, eos_token=None)
    found = read_vocabulary(tmp_path, config(vocab_size=size, type_vocab_size=2))
    assert written(found)["tokenizer.ggml.token_type_count"] == 2


def piece(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("single", "adds"),
    [
        ([piece("<s>"), TEXT], (True, False)),
        ([TEXT, piece("</s>")], (False, True)),
        ([piece("<s>"), TEXT, piece("</s>")], (True, True)),
        ([TEXT], (False, False)),
        ([piece("<s>"), piece("<|im_start|>"), TEXT], None),
        ([piece("<|im_start|>"), TEXT], None),
        ([TEXT, TEXT], None),
    ],
)
def test_what_is_added_to_texts(single: list[Any], adds: tuple[bool, bool] | None, tmp_path: Path) -> None:
    post = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    table = table_of(byte_level(BYTES), lambda t: t.update(post_processor={"type": "Sequence", "processors": [post]}))
    if adds is None:
        with pytest.raises(ModelError, match="GGUF cannot say that"):
            read(tmp_path, table)
    else:
        found = read(tmp_path, table)
        assert (found.add_bos, found.add_eos) == adds


# ---- chat templates


def templates(vocabulary: Vocabulary) -> dict[str, Any]:
    return {key: value for key, value in written(vocabulary).items() if key.startswith("tokenizer.chat_template")}


def test_several_templates(tmp_path: Path) -> None:
    several = [{"name": "default", "template": "D"}, {"name": "tool use", "template": "T"}]
    wanted = {
        "tokenizer.chat_template": "D",
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_templates": ["tool_use"],
    }
    assert templates(read(tmp_path, table_of(byte_level(BYTES)), chat_template=several)) == wanted
    (tmp_path / "chat_template.jinja").write_text("J")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("R")
    found = read(tmp_path, table_of(byte_level(BYTES)), chat_template=several)
    assert templates(found) == {
        "tokenizer.chat_template": "J",
        "tokenizer.chat_template.rag": "R",
        "tokenizer.chat_templates": ["rag"],
    }
    assert templates(as_taught(found, "taught", []))["tokenizer.chat_template"] == "taught"


def test_no_template_and_the_older_file(tmp_path: Path) -> None:
    assert templates(read(tmp_path, table_of(byte_level(BYTES)))) == {}
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "O"}))
    assert templates(read(tmp_path, table_of(byte_level(BYTES)))) == {"tokenizer.chat_template": "O"}
