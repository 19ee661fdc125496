"""Which of llama.cpp's pre-tokenizers a tokenizer.json is, told by its structure.

llama.cpp's own converter hashes the encoding of a test string and so refuses a known tokenizer with a token more; what
decides is how text is split, so that is what is compared: the splitting steps in order, and whether a word that is a
token skips the merges. Used by `bpe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HAN_UPPER, _HAN_LOWER = (text[:-1] + r"&&[^\p{Han}]]" for text in (_UPPER, _LOWER))


def _cased(upper: str, lower: str, contractions: str) -> str:
    """o200k's two ways to write a word: it may begin with capitals, or be all capitals."""
    before = r"[^\r\n\p{L}\p{N}]?"
    return f"{before}{upper}*{lower}+{contractions}|{before}{upper}+{lower}*{contractions}|"


QWEN2 = f"{_CONTRACTIONS}|{_WORD}" + r"\p{N}|" + _SIGNS + _TAIL
LLAMA3 = f"{_CONTRACTIONS}|{_WORD}" + r"\p{N}{1,3}|" + _SIGNS + _TAIL
QWEN35 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _TAIL
O200K = _cased(_UPPER, _LOWER, _CONTRACTIONS + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _TAIL
TEKKEN = _cased(_UPPER, _LOWER, "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _TAIL
KIMI = r"[\p{Han}]+|" + _cased(_HAN_UPPER, _HAN_LOWER, _CONTRACTIONS + "?") + r"\p{N}{1,3}|" + _SIGNS + _TAIL
SEED_CODER = f"{_CONTRACTIONS}|{_WORD}" + r"\p{N}| ?[^\s\p{L}\p{N}\r\n]+|" + _TAIL
NO_CONTRACTIONS = _WORD + r"\p{N}|" + _SIGNS + _TAIL
WHITE_SPACE_CASCADE = (
    f"{_CONTRACTIONS}|{_WORD}" + r"\p{N}{1,3}|" + _SIGNS + r"\s*[\r\n]+|"
    + "".join(rf"\s{{{size}}}(?!\S)|" for size in (512, 256, 128, 64, 32, 16, 8, 4)) + r"\s{1,2}(?!\S)|\s{1}"
)  # fmt: skip
DEEPSEEK_CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|" + _TAIL
)
# The cased letters of Unicode as DeepSeek LLM's tokenizer.json lists them.
DEEPSEEK_LETTERS = (
    r"\s?["
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛ"
    "ὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗ"
    "Ａ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
    "]+"
)
DEEPSEEK_SIGNS = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"
DEEPSEEK_CODER_CJK = "[一-龥ࠀ-一가-퟿]+"
EXAONE_MOE = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|" + _TAIL
)
DIGIT_GROUPS = r"\d{1,3}(?=(?:\d{3})*\b)"
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
# Patterns that match every character: what a Split keeps with `Removed` and `invert` is then all of the text.
_WHOLE = frozenset({QWEN2, LLAMA3, QWEN35, O200K, TEKKEN, KIMI, SEED_CODER, NO_CONTRACTIONS, WHITE_SPACE_CASCADE})


@dataclass(frozen=True)
class Pre:
    """llama.cpp's names for one way to split: as it is, and where a word that is a token skips the merges. `with_marks`
    is the name (where such words skip the merges) that splits alike and keeps combining marks with their letters, which
    the others do not."""

    plain: str | None
    skipping: str | None = None
    with_marks: str | None = None
    loses_marks: bool = False


# How text is split -> llama.cpp's name. Where several names mean the same, the oldest, which more programs know:
# "smaug-bpe" is also dbrx (Phi-4, OLMo 2, Granite 4) and chatglm-bpe; "llama-bpe" also glm4, falcon3, lfm2; "qwen2"
# also stablelm2, hunyuan, bailingmoe, megrez, grok-2, solar-open; "smollm" also starcoder, refact (Granite 3),
# command-r, codeshell, exaone, minerva-7b; "gpt-2" also mpt, olmo, phi-2, exaone4, jais; "deepseek-v3" also
# hunyuan-dense; "gpt-4o" also llama4 and minimax-m2; "bloom" also poro-chat and gpt3-finnish.
_KNOWN: dict[tuple[str, ...], Pre] = {
    (QWEN2,): Pre("qwen2"),
    (QWEN35,): Pre("qwen35"),
    (LLAMA3,): Pre("smaug-bpe", "llama-bpe"),
    (r"\p{N}{1,3}", f"{_CONTRACTIONS}|{_WORD}" + r"\p{N}+|" + _SIGNS + _TAIL): Pre(None, "minicpm5"),
    ("bytes",): Pre("gpt-2"),
    ("digits", "bytes"): Pre("smollm"),
    (O200K,): Pre("gpt-4o", with_marks="granite-embed-multi-97m", loses_marks=True),
    (TEKKEN,): Pre(None, "tekken", with_marks="granite-embed-multi-97m", loses_marks=True),
    (KIMI,): Pre("kimi-k2", loses_marks=True),
    (SEED_CODER,): Pre("seed-coder"),
    (NO_CONTRACTIONS,): Pre("ufakzeka"),
    (WHITE_SPACE_CASCADE,): Pre("jais-2"),
    (r"\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK_WORDS): Pre("deepseek-v3"),
    (r"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, r"\s+$", DEEPSEEK_CODER_CJK, "digits"): Pre("deepseek-llm"),
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CODER_CJK, "digits"): Pre("deepseek-coder"),
    ("punctuation", "bytes", "digit runs", "[0-9][0-9][0-9]"): Pre("falcon"),
    (EXAONE_MOE,): Pre("exaone-moe"),
    (DIGIT_GROUPS, O200K): Pre("tiny_aya"),
    (BLOOM,): Pre("bloom"),
    (BLOOM, "digits"): Pre("viking"),
}  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """`name` is llama.cpp's. `needs_merges` says that it is right only if every token can be made by merges, because
    tokenizer.json and llama.cpp differ in whether a word that is a token skips them. `with_marks` is the name for a
    vocabulary whose tokens hold letters with combining marks, right only if every token can be made by merges;
    `loses_marks` says that `name` is wrong for such a vocabulary."""

    name: str
    needs_merges: bool
    with_marks: str | None
    loses_marks: bool


def recognise(tokenizer: Mapping[str, Any]) -> Recognised:
    """llama.cpp's pre-tokenizer for a byte-level BPE. A `ModelError` lists the known ones."""
    steps = _steps(tokenizer.get("pre_tokenizer"))
    known = _KNOWN.get(steps) if steps else None
    if known is None:
        names = sorted({name for pre in _KNOWN.values() for name in (pre.plain, pre.skipping) if name})
        raise ModelError(
            "tokenizer.json splits text in a way that edgeft cannot express in GGUF", do=f"known: {', '.join(names)}"
        )
    _check_normalizer(tokenizer.get("normalizer"))
    skips = bool((tokenizer.get("model") or {}).get("ignore_merges"))
    wanted, other = (known.skipping, known.plain) if skips else (known.plain, known.skipping)
    name = wanted or other
    assert name is not None
    return Recognised(name, needs_merges=not wanted, with_marks=known.with_marks, loses_marks=known.loses_marks)


def _check_normalizer(normalizer: Any) -> None:
    """NFC is let pass: what people type is in that form already, and a file's verification tells where it is not."""
    if normalizer is None:
        return
    for part in normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, Mapping) else [{}]:
        if part.get("type") != "NFC":
            raise ModelError(f"tokenizer.json normalises text with {part.get('type')!r}; llama.cpp does not")


def _steps(pre: Any) -> tuple[str, ...] | None:
    """The splitting steps: patterns, and "digits", "digit runs", "punctuation", "bytes" (GPT-2's own pattern); None
    when one is something else, or text does not become bytes."""
    if not isinstance(pre, Mapping):
        return None
    found: list[str] = []
    byte_levels = 0
    for part in _flat(pre):
        byte_levels += part.get("type") == "ByteLevel"
        step = _step(part)
        if step is None:
            return None
        found.extend(step)
    return tuple(found) if byte_levels == 1 else None


def _flat(pre: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if pre.get("type") != "Sequence":
        return [pre]
    return [inner for part in pre.get("pretokenizers", []) for inner in _flat(part)]


def _step(part: Mapping[str, Any]) -> list[str] | None:
    kind = part.get("type")
    if kind == "Split":
        return _split(part)
    if kind == "Digits":
        return ["digits" if part.get("individual_digits") else "digit runs"]
    if kind == "Punctuation":
        return ["punctuation"] if part.get("behavior") == "Contiguous" else None
    if kind == "ByteLevel" and not part.get("add_prefix_space"):
        return ["bytes"] if part.get("use_regex", True) else []
    return None


def _split(part: Mapping[str, Any]) -> list[str] | None:
    pattern = (part.get("pattern") or {}).get("Regex")
    if not isinstance(pattern, str):
        return None
    pattern = canonical(pattern)
    isolated = part.get("behavior") == "Isolated" and not part.get("invert")
    kept = part.get("behavior") == "Removed" and part.get("invert") and pattern in _WHOLE
    return [pattern] if isolated or kept else None


def canonical(pattern: str) -> str:
    """One spelling for patterns that split alike: line breaks escaped; tiktoken's possessive quantifiers greedy (what
    follows them can never match what they would give back); its short form of the contractions; `\\s*[\\r\\n]` with a
    plus (the white space before already takes all line breaks but the last)."""
    pattern = pattern.replace("\r", r"\r").replace("\n", r"\n")
    pattern = re.sub(r"([\]}])([?+*])\+", r"\1\2", pattern)
    pattern = pattern.replace("'(?i:[sdmt]|ll|ve|re)", _CONTRACTIONS).replace(r"\p{N}{1}|", r"\p{N}|")
    return pattern.replace(r"|\s*[\r\n]|", r"|\s*[\r\n]+|")
