"""What llama.cpp holds of a tokenizer, and how it is written. Made by `read`, written by `export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeft.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's token types
_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}  # llama.cpp spells it so
# Which token llama.cpp takes for the end when a file names none: it would stop answers there.
_DEFAULT_END = {"gpt2": 11, "llama": 2, "t5": 1}
# llama.cpp gives special tokens other flags when general.name holds one of these, and cannot load the file when the
# tokens that it then looks for are not there.
_NAME_OF_STRIPPING = "phi-3"
_NAMES_WITH_EFFECTS = {"phi-3": "phi_3", "phi3": "phi_3", "modern-bert": "modern_bert"}
SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"
# What llama.cpp does otherwise where a space is put before text only at its start, by whether it always puts one.
_AT_THE_START = {
    True: "llama.cpp puts a space before text behind special tokens too, and before a space; the tokenizer only before "
    "a text that begins without one",
    False: "llama.cpp puts no space before a text that does not begin with a special token, the tokenizer does",
}
Put = Callable[[str, Any, str], None]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in llama.cpp's terms.

    model        "gpt2" (byte-level BPE), "llama" (SentencePiece-like BPE), "t5" (Unigram), "bert" (WordPiece)
    pre          llama.cpp's name of the pre-tokenizer; "default" where the model has none
    tokens, types, scores   by id; `scores` only for "llama" and "t5"
    merges       "left right", for "gpt2" only
    special      role -> id
    template     the default chat template, may be empty; `templates` the further ones by name
    settings     further keys with their kinds ("tokenizer.ggml.add_space_prefix", True, "bool")
    space_at_start_only  the tokenizer puts a space before a text, but not behind special tokens: llama.cpp does both or
                 none, so none is right where there is a chat template (a conversation begins with a special token)
    strips_right whether special tokens swallow the white space behind them
    differences  what llama.cpp will do otherwise than the trainer's tokenizer, in words
    """

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    template: str
    model: str = "gpt2"
    scores: list[float] | None = None
    templates: dict[str, str] = field(default_factory=dict)
    settings: tuple[tuple[str, Any, str], ...] = ()
    strips_right: bool = False
    differences: tuple[str, ...] = ()
    space_at_start_only: bool = False


def as_taught(vocabulary: Vocabulary, chat_template: str | None, stop_ids: Sequence[int]) -> Vocabulary:
    """The vocabulary with the template and the end tokens of training in place of the base's own. GGUF has three places
    for end tokens (eos, eot, eom); a `ModelError` when there are more."""
    special = dict(vocabulary.special)
    if stop_ids:
        if special.get("eos") not in stop_ids:
            special["eos"] = stop_ids[0]
        others = [number for number in stop_ids if number != special["eos"]]
        if len(others) > 2:
            raise ModelError(f"training ends answers at {len(stop_ids)} tokens; a GGUF file can name three")
        special = {role: number for role, number in special.items() if role not in ("eot", "eom")}
        special |= dict(zip(("eot", "eom"), others, strict=False))
    template = vocabulary.template if chat_template is None else chat_template
    return settled(replace(vocabulary, special=special, template=template))


def settled(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with what its template decides."""
    if not vocabulary.space_at_start_only:
        return vocabulary
    prefix = not vocabulary.template
    settings = tuple(setting for setting in vocabulary.settings if setting[0] != SPACE_PREFIX)
    others = tuple(text for text in vocabulary.differences if text not in _AT_THE_START.values())
    return replace(
        vocabulary,
        settings=(*settings, (SPACE_PREFIX, prefix, "bool")),
        differences=(_AT_THE_START[prefix], *others),
    )


def name_for(vocabulary: Vocabulary, name: str) -> str:
    """`general.name`: llama.cpp tells by it whether special tokens swallow the white space behind them, so it must hold
    "phi-3" for a tokenizer that does, and nothing like it for others."""
    lowered = name.lower()
    if vocabulary.strips_right:
        return name if _NAME_OF_STRIPPING in lowered else f"{name} ({_NAME_OF_STRIPPING})"
    for text, harmless in _NAMES_WITH_EFFECTS.items():
        while (at := name.lower().find(text)) >= 0:
            name = name[:at] + harmless + name[at + len(text) :]
    return name


def put_vocabulary(vocabulary: Vocabulary, put: Put) -> None:
    """Hand the vocabulary to `put(key, value, kind)` under llama.cpp's keys. A `ModelError` when no end token is known:
    llama.cpp would take an ordinary token for one."""
    default = _DEFAULT_END.get(vocabulary.model)
    if default is not None and "eos" not in vocabulary.special and default < len(vocabulary.tokens):
        raise ModelError(
            f"the model names no end token; llama.cpp would stop answers at token {default} "
            f"({vocabulary.tokens[default]!r})",
            do="name it in tokenizer_config.json (eos_token) or generation_config.json (eos_token_id)",
        )
    put("tokenizer.ggml.model", vocabulary.model, "string")
    put("tokenizer.ggml.pre", vocabulary.pre, "string")
    put("tokenizer.ggml.tokens", vocabulary.tokens, "array")
    if vocabulary.scores is not None:
        put("tokenizer.ggml.scores", vocabulary.scores, "array")
    put("tokenizer.ggml.token_type", vocabulary.types, "array")
    if vocabulary.model == "gpt2":
        put("tokenizer.ggml.merges", vocabulary.merges, "array")
    for role, number in vocabulary.special.items():
        put(f"tokenizer.ggml.{_KEYS.get(role, role)}_token_id", number, "uint32")
    put("tokenizer.ggml.add_bos_token", vocabulary.add_bos, "bool")
    put("tokenizer.ggml.add_eos_token", vocabulary.add_eos, "bool")
    for key, value, kind in vocabulary.settings:
        put(key, value, kind)
    _put_templates(vocabulary.template, vocabulary.templates, put)


def _put_templates(default: str, named: Mapping[str, str], put: Put) -> None:
    for name, template in named.items():
        put(f"tokenizer.chat_template.{name}", template, "string")
    if named:
        put("tokenizer.chat_templates", list(named), "array")
    if default:
        put("tokenizer.chat_template", default, "string")
